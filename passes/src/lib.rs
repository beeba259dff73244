//! Graph to graph rewrites.
