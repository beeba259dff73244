//! The artifact: header, manifest and sections, encode beside decode.
