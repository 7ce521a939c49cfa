//! Is the pod still there that a certificate was issued to?

/// What is known of the pods of one cluster.
///
/// Nobody waits for the holder of a pod that is gone before a new root signs (see [`HolderStore::gone`]).
///
/// [`HolderStore::gone`]: crate::seams::store::HolderStore::gone
pub trait LivePods: Send + Sync {
    /// Whether the cluster's API server has told of all its pods, lately, and none that runs has this UID. `false` when
    /// nobody knows.
    fn is_gone(&self, pod_uid: &str) -> bool;
}
