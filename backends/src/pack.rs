//! Weights laid out as the schedule asks.
