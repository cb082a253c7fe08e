//! What the egress refused, as the owner hears of it.

use crate::world::{World, execution, finished};
use oauth3_core::{AuditEvent, AuditKind, AuditRow, Execution, RequestId};

/// A request that ran and ended now, and what was refused meanwhile: whether it was about a placeholder.
fn ran(world: &World, execution: Execution, refused: &[bool]) {
    let now = oauth3_core::Clock::now(&*world.broker);
    for placeholder in refused {
        let event = AuditEvent::new(AuditKind::EgressRefused, "keeper").request(&execution.id);
        let event = event.with("host", "evil.example").with("reason", "a sentence <b>of the egress</b>");
        let event = if *placeholder { event.with("placeholder", true) } else { event };
        let row = AuditRow { seq: 1, at: now, event, mac: String::new() };
        world.broker.audit.lock().unwrap().push(row);
    }
    let done = Execution { executed_at: Some(now), finished_at: Some(now), ..finished(execution, 0) };
    world.broker.set(done);
}

#[tokio::test]
async fn the_owner_is_told_when_code_sends_a_placeholder_astray() {
    let world = World::new().await;
    let request = execution();
    let id = world.submit(request.clone());
    world.card(&id, "Approval wanted").await;
    ran(&world, request, &[false, true, true]);
    let card = world.card(&id, "Success").await;
    assert!(card.text.contains("3 refused by the egress"), "{}", card.text);
    let told = world.says("Code tried to take a secret where it may not go").await;
    assert!(told.text.contains("evil.example: a sentence <b>of the egress</b>"), "{}", told.text);
    assert!(told.text.contains(id.as_str()), "{}", told.text);
}

#[tokio::test]
async fn what_has_nothing_to_do_with_a_secret_is_counted_only() {
    let world = World::new().await;
    let request = execution();
    let id = world.submit(request.clone());
    world.card(&id, "Approval wanted").await;
    ran(&world, request, &[false]);
    assert!(world.card(&id, "Success").await.text.contains("1 refused by the egress"));
    // Under a grant there is no card, and the owner hears of it all the same.
    let granted = Execution { id: RequestId::random().unwrap(), trusted: true, ..execution() };
    let granted_id = granted.id.clone();
    ran(&world, granted, &[true]);
    let told = world.says("Code tried to take a secret").await;
    assert!(told.text.contains(granted_id.as_str()) && !told.text.contains(id.as_str()), "{}", told.text);
}
