#!/bin/sh
# What Mesa's driver for Adreno GPUs makes of WGSL shaders: registers, waves, spills (STP and LDP) and instructions by class
# (cat2 and cat3 are arithmetic, cat6 memory), on a machine without one: the driver of Debian for aarch64 runs in qemu-user over
# Mesa's shim of the kernel's interface.
#
#     statistics.sh FILE.wgsl..        CHIP=660 (or 630, 618, 540..)  FOLDER=target/adreno
#
# Needs apt with aarch64 packages, a compiler for it, qemu-aarch64 and cargo. Nothing is installed: packages are
# unpacked in FOLDER, once.
set -eu
tool=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$tool/../../.." && pwd)
folder=${FOLDER:-$repository/target/adreno}
root=$folder/root
version=22.3.6

unpack() {
  mkdir -p "$folder/lists/partial" "$root"
  cd "$folder"
  for package in mesa-vulkan-drivers libdrm2 libdrm-amdgpu1 libexpat1 zlib1g libzstd1 libwayland-client0 libxcb1 libxcb-dri3-0 \
    libxcb-present0 libxcb-randr0 libxcb-shm0 libxcb-sync1 libxcb-xfixes0 libx11-xcb1 libx11-6 libxshmfence1 libudev1 \
    libstdc++6 libgcc-s1 libc6 libxau6 libxdmcp6 libbsd0 libmd0 libffi8 libdrm-dev libvulkan-dev; do
    apt-get download -qq "$package:arm64"
  done
  for package in *.deb; do dpkg -x "$package" "$root"; done
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >sources
  own="-o Dir::Etc::SourceList=$folder/sources -o Dir::Etc::SourceParts=/dev/null -o Dir::State::lists=$folder/lists"
  # shellcheck disable=SC2086 # a list of words
  apt-get $own -qq update && apt-get $own -qq source --download-only mesa=$version-1+deb12u2
  tar xzf "mesa_$version.orig.tar.gz"
}

# The few files of Mesa that its shim needs.
build_shim() {
  cd "$folder/mesa-$version"
  cat >length.c <<'C'
unsigned long u_printf_length(const char *format, __builtin_va_list values) { return __builtin_vsnprintf(0, 0, format, values); }
C
  has=$(printf ' -DHAVE_%s' PTHREAD ENDIAN_H MEMFD_CREATE STRUCT_TIMESPEC TIMESPEC_GET SECURE_GETENV DLADDR POSIX_MEMALIGN \
    __BUILTIN_FFS __BUILTIN_CLZ __BUILTIN_CLZLL __BUILTIN_BSWAP32 __BUILTIN_BSWAP64 __BUILTIN_EXPECT __BUILTIN_POPCOUNT \
    __BUILTIN_POPCOUNTLL __BUILTIN_UNREACHABLE FUNC_ATTRIBUTE_UNUSED FUNC_ATTRIBUTE_PACKED FUNC_ATTRIBUTE_FORMAT)
  # shellcheck disable=SC2086 # a list of words
  aarch64-linux-gnu-gcc -O1 -fPIC -std=gnu11 -w -D_GNU_SOURCE -DNDEBUG -DPACKAGE_VERSION='"none"' $has \
    -Iinclude -Isrc -Isrc/mesa -Isrc/mapi -Isrc/gallium/include -Isrc/gallium/auxiliary -Iinclude/drm-uapi \
    -I"$root/usr/include" -I"$root/usr/include/libdrm" -shared -o "$folder/shim.so" \
    src/drm-shim/device.c src/drm-shim/drm_shim.c src/freedreno/drm-shim/freedreno_noop.c length.c \
    $(printf ' src/util/%s.c' hash_table set ralloc u_debug vma u_call_once os_misc os_file u_process log simple_mtx bitscan \
      rb_tree memstream) src/c11/impl/threads_posix.c src/c11/impl/time.c \
    -L"$root/usr/lib/aarch64-linux-gnu" -l:libdrm.so.2 -ldl -lpthread -lm
}

shaders=$(for shader; do realpath "$shader"; done)
[ -d "$folder/mesa-$version" ] || (unpack)
[ -f "$folder/shim.so" ] || (build_shim)
aarch64-linux-gnu-gcc -O1 -Wall -I"$root/usr/include" "$tool/statistics.c" -o "$folder/statistics" -ldl
cd "$repository"
# shellcheck disable=SC2086 # a list of paths
cargo run --quiet -p edgecc-backends --example spirv -- $shaders
libraries=$root/lib/aarch64-linux-gnu:$root/usr/lib/aarch64-linux-gnu
# shellcheck disable=SC2046 # a list of paths
qemu-aarch64 -L "$root" -E LD_LIBRARY_PATH="$libraries" -E LD_PRELOAD="$folder/shim.so" -E FD_GPU_ID="${CHIP:-660}" \
  "$folder/statistics" libvulkan_freedreno.so $(for shader in $shaders; do echo "${shader%.wgsl}.spv"; done)
