//! What a contraction computes, apart from how.
