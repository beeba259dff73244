#!/bin/sh
# What the tests need beyond Rust: an emulator and cross compilers for aarch64 (Debian packages, as root only) and Python
# packages in .venv. Safe to run again. Says in one line each what it leaves out.
set -eu
cd "$(dirname "$0")/../.."

packages="qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
rust="rustc-web libstd-rust-web-dev:arm64"
if command -v qemu-aarch64 >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null; then
  echo "setup: emulator and cross compiler are there"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  dpkg --add-architecture arm64
  apt-get -qq update
  # shellcheck disable=SC2086
  apt-get -qq install -y --no-install-recommends $packages >/dev/null && echo "setup: installed $packages"
  # shellcheck disable=SC2086
  apt-get -qq install -y --no-install-recommends $rust >/dev/null && echo "setup: installed $rust" ||
    echo "setup: no Rust for aarch64 from packages; the runtime is not tested under the emulator"
else
  echo "setup: not root, or no apt: tests on emulated aarch64 are skipped unless qemu-aarch64 and aarch64-linux-gnu-gcc are there"
fi

if [ ! -x .venv/bin/python ]; then
  python3 -m venv .venv
fi
.venv/bin/python -m pip install -q -r tests/tools/requirements.txt && echo "setup: Python packages in .venv"
