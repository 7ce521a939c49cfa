//! Generates wire types with a compiler written in Rust, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["istio/v1/auth/ca.proto", "signet/admin/v1alpha1/admin.proto", "signet/agent/v1alpha1/agent.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set by cargo")?);
    std::fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().codec_path("crate::codec::SizedCodec").compile_fds(descriptors)?;
    Ok(())
}
