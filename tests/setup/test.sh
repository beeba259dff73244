#!/bin/sh
# Sets up what the tests need and passes them all.
set -eu
cd "$(dirname "$0")/../.."
tests/setup/setup.sh
cargo test --workspace
