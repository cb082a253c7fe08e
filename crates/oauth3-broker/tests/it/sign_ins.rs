//! Sign-ins that agents bring about, and those that requests wait for.

use crate::fakes::SEALED;
use crate::world::{CODE, World, approve, bot, draft_with_secrets};
use oauth3_core::{
    AgentPort, ApiId, Connection, Derived, DerivedWay, Fault, Host, KeyPlace, OwnerPort, SealedSecret, SealedSignIn,
    SecretName, SecretRecord, SignInOrder, SignInSetup, SignInState, Status, Timestamp, TokenChange, Trust, Uses,
};
use std::time::Duration;

const MAIL: &str = "connection:my-mail";

fn mail() -> ApiId {
    ApiId::connection("my-mail").unwrap()
}

fn connection() -> Connection {
    Connection {
        api: mail(),
        base_url: "https://api.example.com".into(),
        place: KeyPlace::Bearer,
        rules: [].into(),
        sign_in: Some(SignInSetup {
            provider: "generic".into(),
            parameters: [("issuer".to_owned(), "https://login.example.com".to_owned())].into(),
            client_id: "client".into(),
            scopes: ["mail.read".to_owned()].into(),
            hosts: [Host::parse("api.example.com").unwrap()].into(),
            from: None,
        }),
        created_at: Timestamp::from_millis(0),
    }
}

async fn world() -> World {
    let world = World::new().await;
    world.broker.put_connection(connection(), "cli").await.unwrap();
    world
}

impl World {
    fn orders(&self) -> Vec<String> {
        self.keeper.orders.lock().unwrap().clone()
    }

    /// As the keeper does when the owner signed in.
    async fn signs_in(&self) {
        let mut sign_in = self.store.sealed_sign_in(&mail()).await.unwrap().unwrap();
        let (from, now) = (sign_in.record.version, Timestamp::from_millis(1));
        sign_in.record.version += 1;
        sign_in.record.attempt = None;
        sign_in.record.state = SignInState::SignedIn;
        let (name, hosts) = (SecretName::parse(MAIL).unwrap(), connection().sign_in.unwrap().hosts);
        let record = SecretRecord { name, hosts, uses: Uses::default(), version: 1, created_at: now, updated_at: now };
        let token = SealedSecret { record, sealed: SEALED.to_vec() };
        let next = SealedSignIn { sealed: SEALED.to_vec(), ..sign_in };
        assert!(self.store.put_sign_in(&next, from, TokenChange::Put(&token)).await.unwrap());
        self.broker.secrets_changed().await;
    }
}

#[tokio::test]
async fn a_yes_to_a_request_begins_the_sign_in_that_it_waits_for_and_goes_on_after_it() {
    let world = world().await;
    let id = world.ask(draft_with_secrets(CODE, &[MAIL])).await;
    assert!(world.orders().is_empty(), "nobody is asked to sign in for what was not approved");
    let waiting = world.verdict(&id, approve(Trust::Once)).await.unwrap();
    assert_eq!(waiting.status, Status::AwaitingSecrets);
    let begun = world.broker.wait_sign_in(&mail(), 0, crate::world::PATIENCE).await.unwrap();
    assert_eq!((begun.word(), world.orders()), ("pending", vec!["Begin my-mail agent:bot".to_owned()]));
    world.signs_in().await;
    assert_eq!(world.ends(&id).await.status, Status::Success);
    assert_eq!(world.orders().len(), 1);
}

#[tokio::test]
async fn an_agent_joins_what_is_under_way_and_brings_about_nothing_that_is_not_needed() {
    let world = world().await;
    let asked = world.broker.ask_sign_in(&bot(), &mail()).await.unwrap();
    assert_eq!(asked.view.status.as_deref(), Some("pending"));
    let joined = world.broker.ask_sign_in(&bot(), &mail()).await.unwrap();
    assert_eq!((joined, world.orders().len()), (asked, 1));
    world.signs_in().await;
    let there = world.broker.ask_sign_in(&bot(), &mail()).await.unwrap();
    assert_eq!((there.view.status.as_deref(), world.orders().len()), (Some("signed_in"), 1));
    let absent = ApiId::connection("nobody").unwrap();
    assert!(matches!(world.broker.ask_sign_in(&bot(), &absent).await, Err(Fault::NotFound(_))));
}

#[tokio::test]
async fn an_agent_cannot_wear_the_owner_out() {
    let world = world().await;
    world.broker.ask_sign_in(&bot(), &mail()).await.unwrap();
    world.broker.order_sign_in(&mail(), SignInOrder::Cancel, "telegram:42").await.unwrap();
    let Err(Fault::RateLimited { retry_after, .. }) = world.broker.ask_sign_in(&bot(), &mail()).await else {
        panic!("the owner is asked again at once");
    };
    assert!((1..=301).contains(&retry_after), "{retry_after}");
    assert_eq!(world.orders().len(), 2);
    // Nor by way of what is derived from it.
    let setup = connection().sign_in.unwrap();
    let from = Some(Derived { parent: mail(), way: DerivedWay::FewerScopes });
    let narrow = ApiId::connection("narrow").unwrap();
    let derived = Connection { api: narrow.clone(), sign_in: Some(SignInSetup { from, ..setup }), ..connection() };
    world.broker.put_connection(derived, "cli").await.unwrap();
    assert!(matches!(world.broker.ask_sign_in(&bot(), &narrow).await, Err(Fault::RateLimited { .. })));
    assert_eq!(world.orders().len(), 2);
    // A yes of the owner's, or himself, is not held back.
    let id = world.ask(draft_with_secrets(CODE, &[MAIL])).await;
    world.verdict(&id, approve(Trust::Once)).await.unwrap();
    world.broker.wait_sign_in(&mail(), 2, crate::world::PATIENCE).await.unwrap();
    world.broker.order_sign_in(&mail(), SignInOrder::Cancel, "telegram:42").await.unwrap();
    world.broker.order_sign_in(&mail(), SignInOrder::Begin, "telegram:42").await.unwrap();
    world.broker.order_sign_in(&mail(), SignInOrder::Cancel, "telegram:42").await.unwrap();
    world.clock.advance(Duration::from_secs(301));
    assert!(world.broker.ask_sign_in(&bot(), &mail()).await.is_ok(), "later he may be asked again");
}

#[tokio::test]
async fn whoever_hears_that_somebody_signed_in_can_make_a_call() {
    let world = world().await;
    let begun = world.broker.order_sign_in(&mail(), SignInOrder::Begin, "cli").await.unwrap();
    // The keeper has stored it, and the news of it have not come.
    world.signs_in().await;
    let before = *world.keeper.refreshed.borrow();
    let record = world.broker.wait_sign_in(&mail(), begun.version, crate::world::PATIENCE).await.unwrap();
    assert_eq!(record.state, SignInState::SignedIn);
    assert!(*world.keeper.refreshed.borrow() > before, "the proxy may not know it");
}

#[tokio::test]
async fn a_connection_that_goes_is_signed_out_of_first() {
    let world = world().await;
    world.broker.order_sign_in(&mail(), SignInOrder::Begin, "cli").await.unwrap();
    world.signs_in().await;
    world.broker.remove_connection(&mail(), "cli").await.unwrap();
    assert_eq!(world.orders().last().map(String::as_str), Some("SignOut my-mail cli"));
    assert!(world.broker.sign_ins().await.unwrap().is_empty());
    let left = OwnerPort::secrets(&*world.broker).await.unwrap();
    assert!(left.iter().all(|secret| secret.name.as_str() != MAIL));
}

#[tokio::test]
async fn a_setup_that_cannot_work_is_not_stored() {
    let world = World::new().await;
    let mut wrong = connection();
    wrong.sign_in.as_mut().unwrap().provider = "mircosoft".into();
    let Err(Fault::InvalidRequest(text)) = world.broker.put_connection(wrong, "cli").await else { panic!() };
    assert!(text.contains("microsoft"), "{text}");
    assert!(OwnerPort::connections(&*world.broker).await.unwrap().is_empty());
}
