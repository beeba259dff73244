//! Loads an artifact and runs it.
