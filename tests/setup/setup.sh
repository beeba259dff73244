#!/bin/sh
# What the tests need beyond Rust: an emulator and cross compilers for aarch64, a Vulkan driver without a GPU, a browser (Debian
# packages, as root only) and Python packages in .venv. Safe to run again. Says in one line each what it leaves out.
set -eu
cd "$(dirname "$0")/../.."

absent() {
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || printf ' %s' "$package"
  done
}

refresh() {
  [ -z "${refreshed:-}" ] || return 0
  refreshed=yes
  dpkg --add-architecture arm64 && apt-get -qq update
}

# install PURPOSE PACKAGE..
install() {
  purpose=$1
  shift
  missing=$(absent "$@")
  # shellcheck disable=SC2086 # a list of words
  if [ -z "$missing" ]; then
    echo "setup: $purpose: there"
  elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "setup: $purpose: skipped, only root on Debian may install$missing"
  elif refresh && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null; then
    echo "setup: $purpose: installed$missing"
  else
    echo "setup: $purpose: skipped, cannot install$missing"
  fi
}

install "emulator of aarch64" qemu-user
install "C for aarch64" gcc-aarch64-linux-gnu libc6-dev-arm64-cross
install "Rust for aarch64" rustc-web libstd-rust-web-dev:arm64
install "models of cores" llvm-19
install "fonts of rendered characters" fonts-cabin fonts-dejavu-core fonts-freefont-ttf fonts-liberation fonts-open-sans
install "a software GPU" libvulkan1 mesa-vulkan-drivers
install "a browser" chromium
command -v npm >/dev/null || install "a second compiler of shaders" npm
if [ -d target/node/node_modules/webgpu ]; then
  echo "setup: Tint: there"
elif command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix target/node webgpu@0.6.2 >/dev/null 2>&1; then
  echo "setup: Tint: in target/node"
else
  echo "setup: Tint: skipped, npm does not install webgpu"
fi
python3 -c 'import ensurepip' 2>/dev/null || install "Python environments" python3 python3-venv

if { [ -x .venv/bin/python ] || python3 -m venv .venv; } && .venv/bin/python -m pip install -q -r tests/tools/requirements.txt; then
  echo "setup: Python packages: in .venv"
else
  echo "setup: Python packages: skipped, no environment in .venv"
fi
