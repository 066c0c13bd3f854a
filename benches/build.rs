//! Builds the adapters to peers that are written in other languages, for the features that ask for
//! them.

fn main() {
    println!("cargo::rerun-if-changed=native");
    #[cfg(feature = "libuv")]
    libuv();
    #[cfg(feature = "libwebrtc")]
    libwebrtc();
}

#[cfg(feature = "libuv")]
fn libuv() {
    cc::Build::new()
        .files(["native/libuv.c", "native/libuv_udp.c"])
        .opt_level(2)
        .compile("bench_libuv");
    println!("cargo::rustc-link-lib=uv");
}

#[cfg(feature = "libwebrtc")]
fn libwebrtc() {
    // Debian builds the library with its debug checks, and `rtc::Thread` has other members then; so
    // NDEBUG must not be defined here either.
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .files(["native/libwebrtc.cc", "native/libwebrtc_udp.cc"])
        .include("/usr/include/tg_owt")
        .define("WEBRTC_POSIX", None)
        .define("WEBRTC_LINUX", None)
        .opt_level(2)
        .warnings(false)
        .compile("bench_libwebrtc");
    println!("cargo::rustc-link-lib=tg_owt");
    for library in [
        "absl_bad_optional_access",
        "absl_strings",
        "absl_throw_delegate",
    ] {
        println!("cargo::rustc-link-lib={library}");
    }
}
