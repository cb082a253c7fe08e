//! `oauth3 serve`: the gateway, wired together, and its keeper.

use crate::launch::SupervisedKeeper;
use crate::output::Output;
use crate::settings::Settings;
use crate::wiring;
use anyhow::{Context, Result, bail};
use oauth3_api::{ApiConfig, OwnerHooks, agent_router, bind_owner_socket, metrics_router, serve_agents, serve_owner};
use oauth3_approve::Telegram;
use oauth3_broker::{Broker, Ports};
use oauth3_core::Keeper as _;
use oauth3_dial::{Dialer, HttpClient};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Runs until a signal or a part that cannot be mended ends it.
///
/// # Errors
/// When a part cannot start, or the keeper dies and cannot be started again.
pub(crate) async fn serve(mut settings: Settings, listen: Option<SocketAddr>, out: Output) -> Result<()> {
    if let Some(listen) = listen {
        settings.config.listen = listen;
    }
    settings.home.require()?;
    // Everything that can be wrong with the configuration is found before a port opens.
    let broker_config = wiring::broker(&settings)?;
    let telegram_config = wiring::telegram(&settings);
    let dialer = Dialer::new(wiring::dial(&settings)?).context("cannot prepare outward connections")?;
    let api = ApiConfig { version: env!("CARGO_PKG_VERSION").into(), public_url: settings.config.public_url.clone() };

    let owner_listener =
        bind_owner_socket(&settings.home.owner_socket()).await.context("cannot open the owner's socket")?;
    let runner = wiring::runner(&settings).await.context("cannot prepare the sandbox")?;
    let store = wiring::store(&settings).await?;
    let listen = settings.config.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;

    let metrics = match settings.config.metrics.address()? {
        Some(listen) => {
            let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
            Some((listener.local_addr()?, listener))
        }
        None => None,
    };
    let home = settings.home.clone();
    let keeper = SupervisedKeeper::start(settings).await?;
    let http = Arc::new(HttpClient::new(dialer));
    let broker = Broker::new(
        broker_config,
        Ports { store: store.clone(), keeper: keeper.clone(), runner, http: http.clone(), clock: wiring::clock() },
    );
    // A bot without a chat answers /id, so that the owner can set one; it asks nobody.
    let _chat = telegram_config.map(|config| {
        let asks = config.chat_id != 0;
        let chat = Telegram::start(config, broker.clone(), store.clone(), http, wiring::clock());
        if asks {
            broker.attach(chat.clone());
        }
        chat
    });
    broker.start().await.context("cannot take up the stored requests")?;

    let (stop, stopped) = watch::channel(false);
    let poke = {
        let broker = broker.clone();
        OwnerHooks::new(move || {
            let broker = broker.clone();
            Box::pin(async move { broker.secrets_changed().await })
        })
    };
    let agents = tokio::spawn(serve_agents(listener, agent_router(broker.clone(), api), stopped.clone()));
    let metrics_address = metrics.as_ref().map(|(address, _)| address.to_string());
    let metrics = metrics
        .map(|(_, listener)| tokio::spawn(serve_agents(listener, metrics_router(broker.clone()), stopped.clone())));
    let owner = tokio::spawn(serve_owner(owner_listener, broker.clone(), poke, stopped.clone()));
    // Before anybody is told that we listen, so that whoever waits for that can stop us in good order.
    let mut signals = Signals::new()?;
    let proxy = keeper.proxy_address().await?;
    let apis = proxy.map_or_else(String::new, |proxy| format!(" · APIs on http://{proxy}"));
    out.result(
        &serde_json::json!({
            "listening": address.to_string(), "proxy": proxy.map(|proxy| proxy.to_string()),
            "metrics": metrics_address, "data_dir": home.dir(),
        }),
        format!(
            "oauth3 {} listens on http://{address}{apis} · data in {}",
            env!("CARGO_PKG_VERSION"),
            home.dir().display()
        ),
    );

    let mut watching = tokio::spawn({
        let (keeper, broker, stopped) = (keeper.clone(), broker.clone(), stopped.clone());
        async move { keeper.watch(broker, stopped).await }
    });
    let outcome = tokio::select! {
        ended = &mut watching => ended.context("the keeper's watch ended").and_then(|r| r),
        () = signals.next() => Ok(()),
    };
    tracing::info!("stopping; a second signal stops at once");
    let wind_down = async {
        broker.shutdown().await;
        let _ = stop.send(true);
        let _ = agents.await;
        if let Some(metrics) = metrics {
            let _ = metrics.await;
        }
        let _ = owner.await;
        if !watching.is_finished() {
            let _ = watching.await;
        }
    };
    tokio::select! {
        () = wind_down => outcome,
        () = signals.next() => bail!("stopped at once; the next start marks what was running as interrupted"),
    }
}

/// The signals that mean: stop. A terminal that is closed says so too.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
