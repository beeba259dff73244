//! Graph to program to machine code.
