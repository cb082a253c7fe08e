//! Where things are, and what the gateway itself needs to know to reach others.

use crate::config::Config;
use anyhow::{Context, Result, bail};
use oauth3_core::Credential;
use std::path::{Path, PathBuf};

/// Configuration, places and the gateway's own credentials.
pub(crate) struct Settings {
    /// The effective configuration.
    pub config: Config,
    /// The file that it came from, when there is one.
    pub config_file: Option<PathBuf>,
    /// Where everything is kept.
    pub home: Home,
    /// The bot's token.
    pub telegram_token: Option<Credential>,
    /// OpenClaw's hooks token.
    pub openclaw_token: Option<Credential>,
    /// The key that signs webhook posts.
    pub webhook_secret: Option<Credential>,
}

/// The data directory and what lies in it.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    dir: PathBuf,
    db: PathBuf,
}

impl Home {
    /// Finds the data directory: the option, else `$OAUTH3_HOME`, else the XDG data directory.
    ///
    /// # Errors
    /// When none of the three can be told.
    pub(crate) fn find(option: Option<&Path>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let dir = option
            .map(Path::to_path_buf)
            .or_else(|| set("OAUTH3_HOME"))
            .or_else(|| set("XDG_DATA_HOME").map(|dir| dir.join("oauth3")))
            .or_else(|| set("HOME").map(|dir| dir.join(".local/share/oauth3")))
            .context("cannot tell the data directory; set OAUTH3_HOME or give --data-dir")?;
        let dir = std::path::absolute(&dir).with_context(|| format!("{} is no usable path", dir.display()))?;
        let db = set("DB_PATH").unwrap_or_else(|| dir.join("oauth3.db"));
        Ok(Self { dir, db: std::path::absolute(db)? })
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The database.
    pub(crate) fn db(&self) -> &Path {
        &self.db
    }

    /// The head of the audit chain, kept outside the database.
    pub(crate) fn audit_head(&self) -> PathBuf {
        self.dir.join("audit.head")
    }

    /// The owner's socket of a running gateway.
    pub(crate) fn owner_socket(&self) -> PathBuf {
        self.dir.join("owner.sock")
    }

    /// The keeper's own socket, for values that go in.
    pub(crate) fn keeper_socket(&self) -> PathBuf {
        self.dir.join("keeper.sock")
    }

    /// Whether `oauth3 init` was run here.
    pub(crate) fn is_initialised(&self) -> bool {
        self.dir.join("master.key").exists() || self.dir.join("vault.json").exists()
    }

    /// An error with the mend when it was not.
    ///
    /// # Errors
    /// When it was not.
    pub(crate) fn require(&self) -> Result<()> {
        if !self.is_initialised() {
            // What we may not look into is not the same as what is not there.
            if let Err(error) = self.dir.join("master.key").try_exists() {
                bail!("cannot look into {}: {error}; oauth3 runs as the user who owns it", self.dir.display());
            }
            bail!("{} has no sealing key yet; run `oauth3 init` first", self.dir.display());
        }
        Ok(())
    }
}

impl Settings {
    /// Reads everything: options first, then variables, then the file.
    ///
    /// # Errors
    /// When the configuration is wrong or a named file cannot be read.
    pub(crate) fn load(data_dir: Option<&Path>, config_file: Option<&Path>) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let home = Home::find(data_dir, &variable)?;
        let default_file = home.dir().join("oauth3.toml");
        let config_file = config_file.map(Path::to_path_buf).or_else(|| default_file.exists().then_some(default_file));
        let mut config = Config::load(config_file.as_deref(), &variable)?;
        for path in &mut config.egress.extra_ca {
            *path = beside(config_file.as_deref(), &*path);
        }
        let credential = |name: &str, file: &str| -> Result<Option<Credential>> {
            match variable(name).filter(|v| !v.is_empty()) {
                Some(value) => Ok(Some(Credential::new(value))),
                None if file.is_empty() => Ok(None),
                None => {
                    let path = beside(config_file.as_deref(), file);
                    let text = std::fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {} (for {name})", path.display()))?;
                    Ok(Some(Credential::new(text)))
                }
            }
        };
        Ok(Self {
            telegram_token: credential("TELEGRAM_BOT_TOKEN", &config.telegram.token_file)?,
            openclaw_token: credential("OAUTH3_NOTIFY_OPENCLAW_TOKEN", &config.notify.openclaw_token_file)?,
            webhook_secret: credential("OAUTH3_NOTIFY_WEBHOOK_SECRET", &config.notify.webhook_secret_file)?,
            config,
            config_file,
            home,
        })
    }

    /// A path of the configuration: a relative one is meant from the file that names it.
    pub(crate) fn beside_config(&self, path: impl AsRef<Path>) -> PathBuf {
        beside(self.config_file.as_deref(), path)
    }
}

fn beside(config_file: Option<&Path>, path: impl AsRef<Path>) -> PathBuf {
    config_file.and_then(Path::parent).unwrap_or(Path::new(".")).join(path)
}
