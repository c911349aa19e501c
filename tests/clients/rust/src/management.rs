//! The client of RabbitMQ's management API on which its `rabbitmqadmin` is built, against the broker in `MANAGEMENT_URI`. The
//! contract with who starts it is in `tests/clients/README.md`.

#[allow(dead_code, reason = "the suite of rumqttc needs more of it")]
mod suite;

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use rabbitmq_http_client::{
    blocking_api::Client,
    commons::{BindingDestinationType, PolicyTarget, QueueType, SupportedProtocol},
    password_hashing,
    requests::{ExchangeParams, Permissions, PolicyParams, QueueParams, UserParams, VirtualHostParams},
};
use serde_json::{Map, json};

use self::suite::Check;

type Api = Client<String, &'static str, &'static str>;

fn api() -> Api {
    let uri = std::env::var("MANAGEMENT_URI").expect("MANAGEMENT_URI is set");
    let address = uri.rsplit_once('@').expect("the URI has a user").1;
    Client::new(format!("http://{address}/api"), "guest", "guest")
}

fn named(kind: &str) -> String {
    format!("roadstead.http.{kind}.{}", std::process::id())
}

fn checks() -> &'static [Check] {
    static CHECKS: OnceLock<Vec<Check>> = OnceLock::new();
    let check = |name: &str, run: fn()| {
        Check { name: name.to_owned(), limit: Duration::from_secs(20), run: Box::new(run) }
    };
    CHECKS.get_or_init(|| {
        vec![
            check("overview-nodes-and-whoami", overview),
            check("queues-of-each-type", queues),
            check("exchanges-bindings-and-messages", messages),
            check("users-permissions-and-vhosts", users),
            check("policies", policies),
            check("definitions", definitions),
            check("health-checks", health),
            check("lists-of-everything", lists),
            check("errors-are-errors", errors),
        ]
    })
}

fn overview() {
    let overview = api().overview().expect("there is an overview");
    assert!(!overview.cluster_name.is_empty() && !overview.listeners.is_empty(), "{overview:?}");
    let nodes = api().list_nodes().expect("nodes are listed");
    assert_eq!(nodes.len(), 1);
    let node = api().get_node_info(&nodes[0].name).expect("a node is described");
    assert!(node.uptime > 0 && node.fd_total > 0, "{node:?}");
    api().get_node_memory_footprint(&nodes[0].name).expect("a node's memory is described");
    assert_eq!(api().current_user().expect("a user is logged in").name, "guest");
}

fn queues() {
    let api = api();
    for (kind, of) in [("classic", QueueType::Classic), ("quorum", QueueType::Quorum), ("stream", QueueType::Stream)] {
        let name = named(kind);
        api.declare_queue("/", &QueueParams::new(&name, of, true, false, None)).expect("a queue is declared");
        let info = api.get_queue_info("/", &name).expect("a queue is described");
        assert_eq!((info.queue_type.as_str(), info.durable), (kind, true));
        api.delete_queue("/", &name, false).expect("a queue is deleted");
        assert!(api.get_queue_info("/", &name).is_err());
    }
}

fn messages() {
    let (api, queue, exchange) = (api(), named("queue"), named("exchange"));
    api.declare_queue("/", &QueueParams::new_durable_classic_queue(&queue, None)).expect("a queue is declared");
    api.declare_exchange("/", &ExchangeParams::durable_topic(&exchange, None)).expect("an exchange is declared");
    api.bind_queue("/", &queue, &exchange, Some("a.#"), None).expect("they are bound");
    let bindings = api.list_queue_bindings("/", &queue).expect("bindings are listed");
    let own = bindings.iter().find(|binding| binding.source == exchange).expect("the binding is there");
    assert_eq!((own.destination_type.clone(), own.properties_key.as_deref()), (BindingDestinationType::Queue, Some("a.%23")));
    let mut properties = Map::new();
    properties.insert("timestamp".to_owned(), json!(123_456_789));
    let routed = api.publish_message("/", &exchange, "a.b", "text", properties).expect("a message is published");
    assert!(routed.routed);
    let got = api.get_messages("/", &queue, 2, "ack_requeue_false").expect("messages are fetched");
    assert_eq!((got.len(), got[0].payload.as_str()), (1, "text"));
    assert_eq!(got[0].properties.0["timestamp"], json!(123_456_789));
    api.purge_queue("/", &queue).expect("a queue is purged");
    api.delete_queue("/", &queue, false).expect("a queue is deleted");
    api.delete_exchange("/", &exchange, false).expect("an exchange is deleted");
}

fn users() {
    let (api, user, vhost) = (api(), named("user"), named("vhost"));
    let hash = password_hashing::base64_encoded_salted_password_hash_sha256(&password_hashing::salt(), "secret");
    api.create_user(&UserParams { name: &user, password_hash: &hash, tags: "monitoring" }).expect("a user is made");
    let tags = api.get_user(&user).expect("a user is described").tags;
    assert!(tags.0.iter().any(|tag| tag == "monitoring"), "{tags:?}");
    api.create_vhost(&VirtualHostParams::named(&vhost)).expect("a vhost is made");
    let permissions = Permissions { user: &user, vhost: &vhost, configure: "a", read: "b", write: "c" };
    api.declare_permissions(&permissions).expect("permissions are set");
    let found = api.list_permissions_of(&user).expect("permissions are listed");
    assert_eq!((found.len(), found[0].write.as_str()), (1, "c"));
    let uri = std::env::var("MANAGEMENT_URI").expect("MANAGEMENT_URI is set");
    let endpoint = format!("http://{}/api", uri.rsplit_once('@').expect("the URI has a user").1);
    let own = Client::new(endpoint.as_str(), user.as_str(), "secret");
    assert_eq!(own.current_user().expect("the user can log in").name, user);
    api.clear_permissions(&vhost, &user, false).expect("permissions are cleared");
    api.delete_user(&user, false).expect("a user is deleted");
    api.delete_vhost(&vhost, false).expect("a vhost is deleted");
}

fn policies() {
    let (api, vhost) = (api(), named("policies"));
    api.create_vhost(&VirtualHostParams::named(&vhost)).expect("a vhost is made");
    let mut definition = Map::new();
    definition.insert("max-length".to_owned(), json!(5));
    let policy = PolicyParams {
        vhost: &vhost,
        name: "p",
        pattern: "^q",
        apply_to: PolicyTarget::Queues,
        priority: 4,
        definition,
    };
    api.declare_policy(&policy).expect("a policy is set");
    api.declare_operator_policy(&policy).expect("an operator policy is set");
    assert_eq!(api.get_policy(&vhost, "p").expect("a policy is described").priority, 4);
    assert_eq!(api.list_operator_policies_in(&vhost).expect("operator policies are listed").len(), 1);
    api.delete_policy(&vhost, "p", false).expect("a policy is deleted");
    api.delete_operator_policy(&vhost, "p", false).expect("an operator policy is deleted");
    api.delete_vhost(&vhost, false).expect("a vhost is deleted");
}

fn definitions() {
    let data = api().export_cluster_wide_definitions_as_data().expect("definitions are exported");
    assert!(data.users.iter().any(|user| user.name == "guest"));
    let text = api().export_cluster_wide_definitions().expect("definitions are exported as text");
    let document = serde_json::from_str(&text).expect("they are JSON");
    api().import_cluster_wide_definitions(document).expect("they are imported");
}

fn health() {
    let api = api();
    api.health_check_cluster_wide_alarms().expect("no alarms");
    api.health_check_local_alarms().expect("no alarms here");
    api.health_check_if_node_is_quorum_critical().expect("one node is not critical");
    api.health_check_protocol_listener(SupportedProtocol::AMQP).expect("AMQP is listened to");
    assert!(api.health_check_port_listener(1).is_err());
}

fn lists() {
    let api = api();
    api.list_connections().expect("connections");
    api.list_channels().expect("channels");
    api.list_consumers().expect("consumers");
    api.list_queues().expect("queues");
    api.list_exchanges().expect("exchanges");
    api.list_bindings().expect("bindings");
    api.list_vhosts().expect("vhosts");
    api.list_users().expect("users");
    api.list_permissions().expect("permissions");
    api.list_topic_permissions().expect("topic permissions");
    api.list_runtime_parameters().expect("parameters");
    api.list_global_runtime_parameters().expect("global parameters");
    api.list_all_vhost_limits().expect("limits of vhosts");
    api.list_all_user_limits().expect("limits of users");
    api.list_feature_flags().expect("feature flags");
    api.get_cluster_name().expect("a name");
}

fn errors() {
    let error = api().get_queue_info("/", "nowhere").expect_err("there is no such queue");
    assert!(error.to_string().contains("404") || format!("{error:?}").contains("404"), "{error:?}");
    let wrong = Client::new(
        format!("http://{}/api", std::env::var("MANAGEMENT_URI").expect("a URI").rsplit_once('@').expect("a user").1),
        "guest",
        "wrong",
    );
    assert!(wrong.overview().is_err());
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    suite::run(checks(), &names)
}
