//! Tests that see the whole road.
