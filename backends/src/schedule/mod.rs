//! How a contraction runs: tables of numbers per core class.
