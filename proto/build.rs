//! Generates wire types with a compiler written in Rust, so that no `protoc` is needed.

use prost_build::{Config, Service, ServiceGenerator};
use tonic_prost_build::configure;

/// Clients and servers, which read messages with codecs of their own.
struct BothSides {
    client: Box<dyn ServiceGenerator>,
    server: Box<dyn ServiceGenerator>,
}

impl ServiceGenerator for BothSides {
    fn generate(&mut self, service: Service, code: &mut String) {
        self.client.generate(service.clone(), code);
        self.server.generate(service, code);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "istio/v1/auth/ca.proto",
        "signet/admin/v1alpha1/admin.proto",
        "signet/admin/v1alpha1/record.proto",
        "signet/agent/v1alpha1/agent.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set by cargo")?);
    std::fs::write(out.join("descriptors.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    let client = configure().build_server(false).codec_path("crate::codec::ClientCodec").service_generator();
    let server = configure().build_client(false).codec_path("crate::codec::ServerCodec").service_generator();
    Config::new().service_generator(Box::new(BothSides { client, server })).compile_fds(descriptors)?;
    Ok(())
}
