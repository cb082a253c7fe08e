//! Who may call what, as of now: read from the store as a whole, looked up without it.

use crate::forward::Visitor;
use crate::keys::Key;
use crate::meter::{Meter, day_of};
use crate::proxy::Shared;
use crate::upstream::Origin;
use oauth3_core::{
    Access, AgentName, AgentRecord, AgentToken, ApiId, ApiKey, Connection, Fault, Grant, GrantId, Host, Intent,
    KeyPlace, RequestId, Rule, SecretName, Status, Tally, Timestamp, TokenHash, TokenId, Trust,
};
use oauth3_policy::{Decision, DenyReason, Facts, Load, Stage, decide};
use oauth3_provider::{BaseUrl, CredentialSlot, Dialect, Provider};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Yeses to single calls that are looked at.
const MAX_ONCE: u32 = 10_000;

/// One API.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) id: ApiId,
    pub(crate) title: String,
    pub(crate) base: BaseUrl,
    /// Where that is.
    pub(crate) origin: Arc<Origin>,
    /// Where its key goes; none when it takes none.
    pub(crate) place: Option<KeyPlace>,
    pub(crate) dialect: Dialect,
    /// The requests that may be made at all; empty: any.
    pub(crate) rules: BTreeSet<Rule>,
    /// Its key is the token of whoever is signed in.
    pub(crate) by_sign_in: bool,
    /// Streams of completions can be asked what they used.
    pub(crate) stream_usage: bool,
    /// A path below the base that shows whether a key is good.
    pub(crate) check: Option<String>,
    /// Further fields by which clients send a key.
    pub(crate) extra_credentials: Vec<String>,
    /// The owner said where it is, so it may be on this machine or in a network of the owner's.
    pub(crate) is_the_owners: bool,
}

/// One agent at one API.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) agent: AgentName,
    pub(crate) api: Arc<Api>,
    /// The standing grant.
    pub(crate) held: Option<Held>,
    /// Yeses to one call each.
    pub(crate) once: Vec<RequestId>,
    /// The keys that are this agent's to use.
    pub(crate) keys: Vec<Arc<Key>>,
    /// Whose turn it is.
    pub(crate) turn: AtomicUsize,
}

/// A standing grant, with what was used of it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) grant: Grant,
    /// Of the grant, for the permits.
    intent: Arc<Intent>,
    pub(crate) meter: Arc<Meter>,
}

/// Everything, at one time.
#[derive(Debug, Default)]
pub(crate) struct Book {
    kill_switch: bool,
    agents: HashMap<TokenId, Agent>,
    apis: HashMap<ApiId, Arc<Api>>,
    /// Those at each host.
    hosts: HashMap<Host, Vec<Arc<Api>>>,
    /// Those of which somebody has a key.
    keyed: HashSet<ApiId>,
}

/// An agent, with what it may use.
#[derive(Debug)]
pub(crate) struct Agent {
    name: AgentName,
    hash: TokenHash,
    seats: HashMap<ApiId, Arc<Seat>>,
}

impl Api {
    /// A provider; an error says what the owner must do first.
    pub(crate) fn of_provider(provider: &Provider) -> Result<Self, String> {
        let place = match &provider.credential {
            CredentialSlot::Bearer => Some(KeyPlace::Bearer),
            CredentialSlot::Scheme(word) => Some(KeyPlace::Scheme(word.clone())),
            CredentialSlot::Header(name) => Some(KeyPlace::Header(name.clone())),
            CredentialSlot::Query(name) => Some(KeyPlace::Query(name.clone())),
            CredentialSlot::None => None,
            CredentialSlot::SigV4 { service, region } => {
                Some(KeyPlace::SigV4 { service: service.clone(), region: region.clone() })
            }
        };
        let base = provider.base().map_err(|missing| missing.to_string())?.clone();
        Ok(Self {
            id: ApiId::provider(&provider.name).map_err(|error| error.to_string())?,
            title: provider.title.clone(),
            is_the_owners: base.host().name() == "localhost",
            origin: origin(&base),
            base,
            place,
            dialect: provider.dialect,
            rules: BTreeSet::new(),
            by_sign_in: false,
            stream_usage: provider.stream_usage,
            check: provider.check_path.clone(),
            extra_credentials: provider.extra_credentials.clone(),
        })
    }

    fn of_connection(connection: &Connection) -> Option<Self> {
        let base = BaseUrl::parse(&connection.base_url).ok()?;
        Some(Self {
            id: connection.api.clone(),
            title: connection.api.name().to_owned(),
            origin: origin(&base),
            base,
            place: Some(connection.place.clone()),
            dialect: Dialect::Plain,
            rules: connection.rules.clone(),
            by_sign_in: connection.sign_in.is_some(),
            stream_usage: false,
            check: None,
            extra_credentials: Vec::new(),
            is_the_owners: true,
        })
    }
}

fn origin(base: &BaseUrl) -> Arc<Origin> {
    Arc::new(Origin::new(base.secure(), base.host().clone()))
}

impl Seat {
    /// What the PDP says of a call under the standing grant, as of now.
    pub(crate) fn decide(&self, book: &Book, now: Timestamp) -> Option<Decision> {
        if book.kill_switch {
            return Some(Decision::Deny(DenyReason::KillSwitch));
        }
        let held = self.held.as_ref()?;
        // Calls have a budget of their own, so the pace of requests to the owner is no part of this.
        let load = Load { calls_last_minute: 0, calls_per_minute: 0, open_requests: 0, open_requests_max: 1 };
        Some(decide(&Facts {
            intent: held.intent.clone(),
            now,
            kill_switch: book.kill_switch,
            agent_active: true,
            grant: Some(&held.grant),
            missing: &[],
            revealed: &BTreeSet::new(),
            reveal_once: false,
            stage: Stage::Submitted(load),
        }))
    }
}

impl Book {
    pub(crate) fn api(&self, id: &str) -> Option<&Arc<Api>> {
        self.apis.get(id)
    }

    /// Whoever holds this token. Compared in constant time.
    pub(crate) fn agent(&self, token: &AgentToken) -> Option<&Agent> {
        self.agents.get(token.id_text()).filter(|agent| agent.hash.matches(&token.hash()))
    }

    /// The seat of whoever holds this token.
    pub(crate) fn seat(&self, token: &AgentToken, api: &Arc<Api>) -> Option<Arc<Seat>> {
        self.agent(token).map(|agent| agent.seat(api))
    }

    /// The name of whoever holds this token.
    pub(crate) fn holder(&self, token: &AgentToken) -> Option<&AgentName> {
        self.agent(token).map(|agent| &agent.name)
    }

    /// Whether somebody holds the token with this id and hash. Compared in constant time.
    pub(crate) fn has(&self, id: &TokenId, hash: &TokenHash) -> bool {
        self.agents.get(id).is_some_and(|agent| agent.hash.matches(hash))
    }

    /// Whether a visitor's token is good, and that agent's.
    pub(crate) fn holds(&self, visitor: &Visitor) -> bool {
        self.holder(&visitor.token) == Some(&visitor.agent)
    }

    /// The APIs that whoever holds this token has keys of, or that need none.
    pub(crate) fn apis_of(&self, token: &AgentToken) -> Vec<&str> {
        let agent = self.agents.get(token.id_text());
        let seated =
            |api: &Api| agent.is_some_and(|agent| agent.seats.get(&api.id).is_some_and(|s| !s.keys.is_empty()));
        let mut ids: Vec<&str> =
            self.apis.values().filter(|api| api.place.is_none() || seated(api)).map(|api| api.id.as_str()).collect();
        ids.sort_unstable();
        ids
    }

    /// The APIs at a host, with TLS or in clear.
    pub(crate) fn at(&self, host: &Host, secure: bool) -> Vec<Arc<Api>> {
        self.hosts.get(host).into_iter().flatten().filter(|api| api.base.secure() == secure).cloned().collect()
    }

    /// Whether the owner has done what an API needs.
    pub(crate) fn is_set_up(&self, api: &Api) -> bool {
        !api.id.is_provider() || api.place.is_none() || self.keyed.contains(&api.id)
    }

    /// The seat of an agent that is known by name.
    pub(crate) fn seat_of(&self, name: &AgentName, api: &Arc<Api>) -> Option<Arc<Seat>> {
        let api = self.apis.get(&api.id)?;
        self.agents.values().find(|agent| agent.name == *name).map(|agent| agent.seat(api))
    }

    pub(crate) const fn is_switched_off(&self) -> bool {
        self.kill_switch
    }

    /// Reads everything anew.
    pub(crate) async fn read(proxy: &Shared, now: Timestamp) -> Result<Self, Fault> {
        let store = proxy.backing.store();
        let kill_switch = store.kill_switch().await?;
        let mut apis: HashMap<ApiId, Arc<Api>> =
            proxy.providers.iter().map(|api| (api.id.clone(), api.clone())).collect();
        let connections = store.connections().await?;
        for connection in &connections {
            match Api::of_connection(connection) {
                Some(api) => drop(apis.insert(api.id.clone(), Arc::new(api))),
                None => tracing::warn!(api = %connection.api, "a connection's address cannot be read; it is left out"),
            }
        }
        let keys = Keys::read(proxy, &connections).await?;
        let held = held(proxy, now).await?;
        let mut once: HashMap<(AgentName, ApiId), Vec<RequestId>> = HashMap::new();
        for execution in store.executions(&[Status::Approved], MAX_ONCE).await? {
            if let Some(access) = execution.intent.access
                && execution.trust == Some(Trust::Once)
            {
                once.entry((execution.intent.agent, access.api)).or_default().push(execution.id);
            }
        }
        let mut agents = HashMap::new();
        for (record, id, hash) in store.active_agents().await? {
            let mut seats = HashMap::new();
            for api in apis.values() {
                let place = (record.name.clone(), api.id.clone());
                let seat = Seat {
                    keys: keys.of(&record, &api.id),
                    held: held.get(&place).cloned(),
                    once: once.get(&place).cloned().unwrap_or_default(),
                    agent: place.0,
                    api: api.clone(),
                    turn: AtomicUsize::new(0),
                };
                if seat.held.is_some() || !seat.once.is_empty() || !seat.keys.is_empty() {
                    seats.insert(api.id.clone(), Arc::new(seat));
                }
            }
            agents.insert(id, Agent { name: record.name, hash, seats });
        }
        let mut hosts: HashMap<Host, Vec<Arc<Api>>> = HashMap::new();
        for api in apis.values() {
            hosts.entry(api.base.host().clone()).or_default().push(api.clone());
        }
        let keyed = keys.0.into_iter().map(|(key, _)| key.api).collect();
        Ok(Self { kill_switch, agents, apis, hosts, keyed })
    }
}

impl Agent {
    pub(crate) fn seat(&self, api: &Arc<Api>) -> Arc<Seat> {
        self.seats.get(&api.id).cloned().unwrap_or_else(|| {
            Arc::new(Seat {
                agent: self.name.clone(),
                api: api.clone(),
                held: None,
                once: Vec::new(),
                keys: Vec::new(),
                turn: AtomicUsize::new(0),
            })
        })
    }
}

/// The newest grant of each agent and API that stands, with its meter.
async fn held(proxy: &Shared, now: Timestamp) -> Result<HashMap<(AgentName, ApiId), Held>, Fault> {
    let store = proxy.backing.store();
    let stands = |grant: &Grant| grant.revoked_at.is_none() && grant.expires_at.is_none_or(|at| now < at);
    let mut found: HashMap<(AgentName, ApiId), Grant> = HashMap::new();
    for grant in store.grants().await?.into_iter().filter(stands) {
        // Newest first.
        if let Some(Access { api, .. }) = &grant.intent.access {
            found.entry((grant.intent.agent.clone(), api.clone())).or_insert(grant);
        }
    }
    let known = proxy.ledger.meters(found.values().map(|grant| &grant.id));
    let sums = if known.len() < found.len() { sums(proxy, day_of(now)).await? } else { HashMap::new() };
    let mut held = HashMap::new();
    for (place, grant) in found {
        let meter = known.get(&grant.id).cloned().unwrap_or_else(|| {
            let (of_day, of_all) = sums.get(&grant.id).copied().unwrap_or_default();
            proxy.ledger.adopt(&grant.id, Meter::from_sums(day_of(now), &of_day, &of_all))
        });
        held.insert(place, Held { intent: Arc::new(grant.intent.clone()), grant, meter });
    }
    Ok(held)
}

/// What was used under each grant: on this day, and in all.
async fn sums(proxy: &Shared, day: i64) -> Result<HashMap<GrantId, (Tally, Tally)>, Fault> {
    let mut sums: HashMap<GrantId, (Tally, Tally)> = HashMap::new();
    for row in proxy.backing.store().usage(0).await? {
        let Some(id) = row.grant_id else { continue };
        let (of_day, of_all) = sums.entry(id).or_default();
        if row.day == day {
            of_day.add(&row.tally);
        }
        of_all.add(&row.tally);
    }
    Ok(sums)
}

/// Keys, and for whom they are.
struct Keys(Vec<(ApiKey, Arc<Key>)>);

impl Keys {
    /// The keys that are assigned, and the tokens of connections that somebody is signed in at.
    async fn read(proxy: &Shared, connections: &[Connection]) -> Result<Self, Fault> {
        let store = proxy.backing.store();
        let versions: HashMap<SecretName, u32> =
            store.secrets().await?.into_iter().map(|secret| (secret.name, secret.version)).collect();
        let tokens = connections.iter().filter(|connection| connection.sign_in.is_some()).filter_map(|connection| {
            let Connection { api, created_at, .. } = connection;
            let secret = SecretName::of_connection(api).ok()?;
            Some(ApiKey { api: api.clone(), secret, agent: None, tag: None, created_at: *created_at })
        });
        let mut assigned = store.api_keys().await?;
        assigned.extend(tokens);
        let mut keys = proxy.keys.lock();
        keys.retain(|name, key| versions.get(name) == Some(&key.version));
        let list = assigned.into_iter().filter_map(|assigned| {
            let version = *versions.get(&assigned.secret)?;
            let key =
                keys.entry(assigned.secret.clone()).or_insert_with(|| Arc::new(Key::new(&assigned.secret, version)));
            let key = key.clone();
            Some((assigned, key))
        });
        Ok(Self(list.collect()))
    }

    /// Those that are this agent's by name; else by a tag; else those that are everybody's. Never a mixture: what was
    /// given to an agent for itself is all that it uses.
    fn of(&self, agent: &AgentRecord, api: &ApiId) -> Vec<Arc<Key>> {
        let of_api = self.0.iter().filter(|(key, _)| key.api == *api);
        let of_agent = |key: &ApiKey| key.agent.as_ref() == Some(&agent.name);
        let of_tag = |key: &ApiKey| key.tag.as_ref().is_some_and(|tag| agent.tags.contains(tag));
        let of_all = |key: &ApiKey| key.agent.is_none() && key.tag.is_none();
        let mut found: [Vec<Arc<Key>>; 3] = Default::default();
        for (assigned, key) in of_api {
            let [own, tagged, open] = &mut found;
            let list = match assigned {
                _ if of_agent(assigned) => own,
                _ if of_tag(assigned) => tagged,
                _ if of_all(assigned) => open,
                _ => continue,
            };
            list.push(key.clone());
        }
        found.into_iter().find(|keys| !keys.is_empty()).unwrap_or_default()
    }
}
