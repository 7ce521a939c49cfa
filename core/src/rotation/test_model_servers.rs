//! The serving certificates of the replicas in the model.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

/// What a replica shows to those who connect.
#[derive(Default, Clone)]
pub(super) struct Server {
    /// The root that its certificate is under.
    under: Option<AuthorityId>,
    /// When the replica looked at the journal last.
    looked_at: Option<OffsetDateTime>,
}

impl World {
    /// Takes a serving certificate as the replica believes it should, if that can be recorded.
    pub(super) fn serve(&mut self, replica: usize) {
        let belief = self.belief(replica);
        let server = &mut self.servers[replica];
        server.looked_at = Some(self.now);
        if let Some((root, issuing)) = belief.serving_issuers(self.now).first()
            && Fence::of(&self.journal).admits(EventKind::ServingCertificate, issuing.id.as_str(), 0)
        {
            server.under = Some(root.id.clone());
        }
    }

    /// Whoever has looked at the journal within the time that passes between leaving a root and dropping it serves under
    /// one that is in the bundle, and that everybody knows who has a certificate.
    pub(super) fn check_servers(&self, live: &[&Holder]) {
        let is_fresh = |server: &&Server| server.looked_at.is_some_and(|at| self.now - at < SETTLE);
        for root in self.servers.iter().filter(is_fresh).filter_map(|server| server.under.as_ref()) {
            assert!(self.journal.root(root).is_some(), "served under {root}, which is in no bundle");
            assert!(
                live.iter().all(|holder| holder.known.contains(root)),
                "a holder cannot verify the CA under {root}"
            );
        }
    }
}
