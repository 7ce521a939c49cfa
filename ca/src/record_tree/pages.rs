//! What everybody may read of the tree, on the port of metrics: checkpoints and hashes (C2SP tlog-tiles). Never an event.

use std::sync::Arc;

use signet_core::seams::record_tree::RecordTree;
use signet_core::seams::store::StoreError;
use signet_core::transparency::{Hash, Tile};
use signet_runtime::ops::{MorePages, Page};

use super::cosigned::Kept as Cosigned;

/// The paths `/checkpoint`, `/checkpoint/cosigned` and `/tile/LEVEL/NUMBER` of the log `origin`.
#[must_use]
pub fn pages(tree: Arc<dyn RecordTree>, origin: String) -> MorePages {
    let page = move |path: String| -> signet_runtime::ops::Answer {
        let pages = Pages { tree: Arc::clone(&tree), origin: origin.clone() };
        Box::pin(async move { pages.page(&path).await.map_err(|error| error.to_string()) })
    };
    MorePages {
        paths: "/checkpoint, /tile/LEVEL/NUMBER  the signed tree over the record (C2SP tlog-tiles)\n\
                /checkpoint/cosigned  the newest checkpoint that enough witnesses have cosigned\n",
        page: Arc::new(page),
    }
}

struct Pages {
    tree: Arc<dyn RecordTree>,
    origin: String,
}

impl Pages {
    async fn page(&self, path: &str) -> Result<Option<Page>, StoreError> {
        match (path, path.strip_prefix("/tile/").map(Tile::parse)) {
            ("/checkpoint", _) => self.checkpoint().await,
            ("/checkpoint/cosigned", _) => self.cosigned().await,
            (_, Some(Some((tile, width)))) => self.tile(tile, width).await,
            _ => Ok(None),
        }
    }

    async fn checkpoint(&self) -> Result<Option<Page>, StoreError> {
        let Some(kept) = self.tree.checkpoint().await? else { return Ok(None) };
        let cosigned = Cosigned::read(&*self.tree, &self.origin).await?;
        Ok(Some(text(cosigned.joined(&kept.note))))
    }

    async fn cosigned(&self) -> Result<Option<Page>, StoreError> {
        let cosigned = Cosigned::read(&*self.tree, &self.origin).await?;
        Ok(cosigned.quorum_note().map(|(note, _)| text(note.to_string())))
    }

    /// Those of the newest checkpoint, and those of every one before it.
    async fn tile(&self, tile: Tile, width: u64) -> Result<Option<Page>, StoreError> {
        let Some(kept) = self.tree.checkpoint().await? else { return Ok(None) };
        if tile.width(kept.edge.size()) < width {
            return Ok(None);
        }
        let hashes = match kept.edge.hashes(tile) {
            Some(hashes) => Some(hashes.to_vec()),
            None => self.tree.tile(tile).await?,
        };
        let wanted = hashes.as_deref().and_then(|hashes| hashes.get(..usize::try_from(width).ok()?));
        Ok(wanted.map(|hashes: &[Hash]| Page {
            content_type: "application/octet-stream",
            cache_control: "public, max-age=31536000, immutable",
            body: hashes.as_flattened().to_vec(),
        }))
    }
}

fn text(note: String) -> Page {
    Page { content_type: "text/plain; charset=utf-8", cache_control: "no-cache", body: note.into_bytes() }
}
