//! The graph: types, operators, expressions, text form, verifier and reference evaluator.
