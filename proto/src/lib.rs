//! Wire types generated from the `.proto` files of this folder. They appear at the gRPC edges only.

pub mod codec;

/// Istio's certificate service.
pub mod istio {
    tonic::include_proto!("istio.v1.auth");
}

/// The CA's administration service.
pub mod admin {
    /// First version, alpha.
    pub mod v1alpha1 {
        tonic::include_proto!("signet.admin.v1alpha1");
    }
}

/// The agent's inspection service.
pub mod agent {
    /// First version, alpha.
    pub mod v1alpha1 {
        tonic::include_proto!("signet.agent.v1alpha1");
    }
}

/// All descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
