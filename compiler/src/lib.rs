//! Reads a model, makes it small and fast, and writes an artifact.
