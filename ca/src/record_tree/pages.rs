//! What everybody may read of the tree, on the port of metrics: checkpoints and hashes (C2SP tlog-tiles). Never an event.

use std::sync::Arc;

use signet_core::seams::record_tree::RecordTree;
use signet_core::seams::store::StoreError;
use signet_core::transparency::{Hash, Tile};
use signet_runtime::ops::{MorePages, Page};

/// The paths `/checkpoint` and `/tile/LEVEL/NUMBER`.
#[must_use]
pub fn pages(tree: Arc<dyn RecordTree>) -> MorePages {
    let page = move |path: String| -> signet_runtime::ops::Answer {
        let pages = Pages(Arc::clone(&tree));
        Box::pin(async move { pages.page(&path).await.map_err(|error| error.to_string()) })
    };
    MorePages {
        paths: "/checkpoint, /tile/LEVEL/NUMBER  the signed tree over the record (C2SP tlog-tiles)\n",
        page: Arc::new(page),
    }
}

struct Pages(Arc<dyn RecordTree>);

impl Pages {
    async fn page(&self, path: &str) -> Result<Option<Page>, StoreError> {
        match (path, path.strip_prefix("/tile/").map(Tile::parse)) {
            ("/checkpoint", _) => self.checkpoint().await,
            (_, Some(Some((tile, width)))) => self.tile(tile, width).await,
            _ => Ok(None),
        }
    }

    async fn checkpoint(&self) -> Result<Option<Page>, StoreError> {
        let note = self.0.checkpoint().await?.map(|kept| kept.note);
        Ok(note.map(|note| Page {
            content_type: "text/plain; charset=utf-8",
            cache_control: "no-cache",
            body: note.into_bytes(),
        }))
    }

    /// Those of the newest checkpoint, and those of every one before it.
    async fn tile(&self, tile: Tile, width: u64) -> Result<Option<Page>, StoreError> {
        let Some(kept) = self.0.checkpoint().await? else { return Ok(None) };
        if tile.width(kept.edge.size()) < width {
            return Ok(None);
        }
        let hashes = match kept.edge.hashes(tile) {
            Some(hashes) => Some(hashes.to_vec()),
            None => self.0.tile(tile).await?,
        };
        let wanted = hashes.as_deref().and_then(|hashes| hashes.get(..usize::try_from(width).ok()?));
        Ok(wanted.map(|hashes: &[Hash]| Page {
            content_type: "application/octet-stream",
            cache_control: "public, max-age=31536000, immutable",
            body: hashes.as_flattened().to_vec(),
        }))
    }
}
