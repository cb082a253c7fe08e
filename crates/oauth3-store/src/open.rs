//! Opening the database: private files, the right modes, current tables.

use crate::StoreError;
use crate::audit::Appender;
use crate::error::unavailable;
use oauth3_core::Fault;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::time::Instant;

/// Connections of one process: one may write while another reads, and the one that appends to the audit is kept.
const CONNECTIONS: u32 = 3;
/// How long a write waits for the other process's write, and a caller for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a connection that met a busy file is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// The WAL file is cut back to this after a checkpoint, in bytes (4 MiB).
const WAL_KEPT_BYTES: &str = "4194304";
/// What the WAL file grows to before it is used from its beginning again: as many pages as SQLite checkpoints after
/// (<https://www.sqlite.org/wal.html#automatic_checkpoint>), each with its header.
const WAL_USUAL_BYTES: u64 = 1000 * (4096 + 24);
/// Pages that the connection which lays the WAL out keeps in memory: the rest goes to the file at once.
const FEW_PAGES: &str = "8";
/// This user only.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The store. Several may be open on one file, in one process or more.
#[derive(Debug)]
pub struct SqliteStore {
    pub(crate) pool: SqlitePool,
    /// The write-ahead log.
    wal: PathBuf,
    pub(crate) audit_head: PathBuf,
    /// Appends of this process go one by one, so that the head file follows the table in order.
    pub(crate) append_turn: tokio::sync::Mutex<Appender>,
    /// Whether the head will be brought to disk anyway.
    pub(crate) head_syncs: Arc<AtomicBool>,
}

impl SqliteStore {
    /// Opens the database, made when it is not there (mode 0600, its folder 0700), and brings its tables up
    /// to date. `audit_head` is the file that remembers where the audit chain ends.
    ///
    /// # Errors
    /// When a file cannot be made private, is no database, or is of a newer oauth3.
    pub async fn open(db: &Path, audit_head: &Path) -> Result<Self, StoreError> {
        for path in [db, audit_head] {
            make_folder(path)?;
        }
        make_private(db).map_err(|source| StoreError::File { path: db.to_owned(), source })?;

        let failed = |source| StoreError::Open { path: db.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(db)
            .busy_timeout(PATIENCE)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("secure_delete", "ON")
            .pragma("journal_size_limit", WAL_KEPT_BYTES)
            .disable_statement_logging();
        let pool = connect(options).await.map_err(failed)?;

        // One write transaction around all of it: two processes that start at once take turns.
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        MIGRATIONS
            .run_direct(None, &mut *tx, false)
            .await
            .map_err(|source| StoreError::Migrate { path: db.to_owned(), source })?;
        tx.commit().await.map_err(failed)?;

        let mut wal = db.as_os_str().to_owned();
        wal.push("-wal");
        Ok(Self {
            pool,
            wal: wal.into(),
            audit_head: audit_head.to_owned(),
            append_turn: tokio::sync::Mutex::default(),
            head_syncs: Arc::default(),
        })
    }

    /// Makes the WAL file as long as it becomes anyway, unless it is. A commit that makes it longer has the disk write
    /// the file's own record too, which takes about twice as long as to overwrite what is there. Keeps other writers
    /// waiting meanwhile, some milliseconds.
    ///
    /// # Errors
    /// When the file cannot be written. Nothing is lost then but the time.
    pub async fn lay_out_wal(&self) -> Result<(), Fault> {
        let missing = WAL_USUAL_BYTES.saturating_sub(fs::metadata(&self.wal).map_or(0, |file| file.len()));
        if missing == 0 {
            return Ok(());
        }
        let options = self.pool.connect_options().as_ref().clone().pragma("cache_size", FEW_PAGES);
        let mut connection = options.connect().await.map_err(unavailable)?;
        // What does not fit into memory lies in the file, though it is never committed.
        let filling = format!(
            "BEGIN IMMEDIATE; CREATE TABLE filling (bytes BLOB);
             INSERT INTO filling VALUES (zeroblob({missing})); ROLLBACK"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(filling)).execute(&mut connection).await.map_err(unavailable)?;
        connection.close().await.map_err(unavailable)?;
        let wal = self.wal.clone();
        let synced = tokio::task::spawn_blocking(move || fs::File::open(wal)?.sync_all()).await;
        synced.map_err(unavailable)?.map_err(unavailable)
    }

    /// Closes every connection; what follows is refused. Needed only before the file is moved or copied.
    pub async fn close(&self) {
        *self.append_turn.lock().await = Appender::default();
        self.pool.close().await;
    }
}

/// Connects. Of several that switch a new file to WAL at once, SQLite tells all but one that it is busy, without
/// the wait that every other statement gets; those try again.
async fn connect(options: SqliteConnectOptions) -> Result<SqlitePool, sqlx::Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            // A local file does not hang up.
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await;
        match pool {
            Err(error) if is_busy(&error) && Instant::now() < until => tokio::time::sleep(BUSY_PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// SQLITE_BUSY, in any of its extended forms (<https://www.sqlite.org/rescode.html#busy>).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()).and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

fn make_folder(file: &Path) -> Result<(), StoreError> {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(folder)
            .map_err(|source| StoreError::Directory { path: folder.to_owned(), source }),
        _ => Ok(()),
    }
}

/// Makes the file before SQLite does, so that it (and the WAL, which copies its mode) is never readable by others.
///
/// A file that is there is never opened here: closing it would drop the locks that another connection of
/// this process holds on it.
fn make_private(db: &Path) -> io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(db) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let others = fs::metadata(db)?.permissions().mode() & 0o077;
            if others == 0 { Ok(()) } else { fs::set_permissions(db, fs::Permissions::from_mode(FILE_MODE)) }
        }
        Err(error) => Err(error),
    }
}
