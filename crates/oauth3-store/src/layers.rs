//! What skills import from elsewhere: the files of each set as one archive, under its digest, within bounds.

use crate::error::unavailable;
use oauth3_core::{Digest, Fault};
use sqlx::SqlitePool;
use std::collections::BTreeSet;

/// Most sets that are kept, and most bytes of all of them together (512 MiB).
const BOUNDS: Bounds = Bounds { count: 256, bytes: 512 << 20 };

struct Bounds {
    count: usize,
    bytes: u64,
}

/// Keeps a set as the one that was used last. Beyond the bounds those go that were used the longest time ago, but for
/// those that are needed.
pub(crate) async fn put(
    pool: &SqlitePool,
    digest: &Digest,
    layer: &[u8],
    needed: &BTreeSet<Digest>,
) -> Result<(), Fault> {
    put_within(&BOUNDS, pool, digest, layer, needed).await
}

/// What is kept under a digest, which is the one that was used last from then on.
pub(crate) async fn get(pool: &SqlitePool, digest: &Digest) -> Result<Option<Vec<u8>>, Fault> {
    let found = sqlx::query_scalar("SELECT bytes FROM layers WHERE digest = ?1").bind(digest.to_string());
    let found: Option<Vec<u8>> = found.fetch_optional(pool).await.map_err(unavailable)?;
    if found.is_some() {
        let used = "UPDATE layer_uses SET used = (SELECT max(used) + 1 FROM layer_uses)
             WHERE digest = ?1 AND used < (SELECT max(used) FROM layer_uses)";
        sqlx::query(used).bind(digest.to_string()).execute(pool).await.map_err(unavailable)?;
    }
    Ok(found)
}

async fn put_within(
    bounds: &Bounds,
    pool: &SqlitePool,
    digest: &Digest,
    layer: &[u8],
    needed: &BTreeSet<Digest>,
) -> Result<(), Fault> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(unavailable)?;
    sqlx::query(
        "INSERT INTO layers (digest, bytes) VALUES (?1, ?2)
           ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes WHERE layers.bytes <> excluded.bytes;
         INSERT INTO layer_uses (digest, bytes, used)
           VALUES (?1, length(?2), (SELECT coalesce(max(used), 0) + 1 FROM layer_uses))
           ON CONFLICT (digest) DO UPDATE SET bytes = excluded.bytes, used = excluded.used",
    )
    .bind(digest.to_string())
    .bind(layer)
    .execute(&mut *tx)
    .await
    .map_err(unavailable)?;
    let all: Vec<(String, i64)> = sqlx::query_as("SELECT digest, bytes FROM layer_uses ORDER BY used DESC, digest")
        .fetch_all(&mut *tx)
        .await
        .map_err(unavailable)?;
    let needed: BTreeSet<String> = needed.iter().chain([digest]).map(ToString::to_string).collect();
    let (mut count, mut bytes) = (0, 0_u64);
    for (name, length) in all {
        let length = u64::try_from(length).unwrap_or_default();
        let fits = count < bounds.count && bytes.saturating_add(length) <= bounds.bytes;
        if fits || needed.contains(&name) {
            (count, bytes) = (count + 1, bytes.saturating_add(length));
            continue;
        }
        sqlx::query("DELETE FROM layers WHERE digest = ?1; DELETE FROM layer_uses WHERE digest = ?1")
            .bind(name)
            .execute(&mut *tx)
            .await
            .map_err(unavailable)?;
    }
    tx.commit().await.map_err(unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteStore;

    const FEW: Bounds = Bounds { count: 3, bytes: 100 };

    #[tokio::test]
    async fn those_that_were_used_the_longest_time_ago_go_and_none_that_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db"), &folder.path().join("head")).await.unwrap();
        let layer = |byte: u8, length: usize| (Digest::of(&[byte]), vec![byte; length]);
        let put = async |(digest, bytes): (Digest, Vec<u8>), needed: &[u8]| {
            let needed = needed.iter().map(|byte| Digest::of(&[*byte])).collect();
            put_within(&FEW, &store.pool, &digest, &bytes, &needed).await.unwrap();
        };
        let kept = async || -> Vec<u8> {
            let mut kept = Vec::new();
            for byte in 1..=7 {
                let found = sqlx::query("SELECT 1 FROM layers JOIN layer_uses USING (digest) WHERE digest = ?1");
                let found = found.bind(Digest::of(&[byte]).to_string()).fetch_optional(&store.pool).await.unwrap();
                kept.extend(found.map(|_| byte));
            }
            kept
        };
        for byte in 1..=3 {
            put(layer(byte, 10), &[]).await;
        }
        // Looking at one is using it.
        assert_eq!(get(&store.pool, &Digest::of(&[1])).await.unwrap(), Some(vec![1; 10]));
        put(layer(4, 10), &[]).await;
        assert_eq!(kept().await, [1, 3, 4], "by count");
        put(layer(5, 10), &[3]).await;
        assert_eq!(kept().await, [1, 3, 4, 5], "what is needed stays beyond the bound");
        put(layer(6, 85), &[]).await;
        assert_eq!(kept().await, [5, 6], "by bytes");
        put(layer(7, 1000), &[]).await;
        assert_eq!(kept().await, [7], "the newest stays, however large");
        put((Digest::of(&[7]), vec![0; 5]), &[]).await;
        assert_eq!(
            get(&store.pool, &Digest::of(&[7])).await.unwrap(),
            Some(vec![0; 5]),
            "in the place of what was there"
        );
        assert_eq!(get(&store.pool, &Digest::of(&[1])).await.unwrap(), None);
    }
}
