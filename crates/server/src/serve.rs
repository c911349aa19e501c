//! `roadstead serve`: starting, watching, and stopping in order.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use anyhow::Context;
use broker::{Broker, Millis, Name, Observer, Permissions, TopicPermissions, User, identity::Pattern, limits};
use parking_lot::Mutex;
use store::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use crate::{
    ServeOptions,
    auth::{self, Authenticator},
    clock::Clock,
    config::{self, Config},
    control,
    durability::{self, Pager, PagerQueue, PagerTasks},
    host::{self, ServerHost},
    keys,
    listener::{self, Protocol, TurnedAway},
    notify,
    otlp::{self, Exporter, Spans},
    resources,
    shutdown::Shutdown,
    telemetry, timer, tls,
};

/// How long connections have to close in order when the broker stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What all connections share.
pub struct Server {
    /// The configuration.
    pub config: Config,
    /// The model.
    pub broker: Arc<Broker>,
    /// The log on disk.
    pub store: Arc<Store>,
    /// The thread that moves messages between memory and disk.
    pub pager: Pager,
    /// Where it is told what to do.
    pub pager_tasks: PagerTasks,
    /// Settings of the AMQP 0-9-1 sessions.
    pub amqp: Arc<amqp091::Settings>,
    /// Settings of the MQTT connections.
    pub mqtt: Arc<mqtt::Settings>,
    /// The MQTT sessions.
    pub sessions: Arc<mqtt::Sessions>,
    /// Settings of the STOMP connections.
    pub stomp: Arc<stomp::Settings>,
    /// How connections of OpenWire are to be.
    pub openwire: Arc<openwire::Settings>,
    /// What connections of OpenWire have in common.
    pub openwire_shared: Arc<openwire::Shared>,
    /// Checks credentials.
    pub authenticator: Arc<Authenticator>,
    /// The time.
    pub clock: Clock,
    /// Becomes true when the broker stops.
    pub shutdown: Shutdown,
    /// Connections.
    pub connections: Arc<AtomicUsize>,
    /// Connections that have not logged in.
    pub before_login: Arc<AtomicUsize>,
    /// Tells of connections that were turned away.
    pub turned_away: TurnedAway,
    /// Where clients can connect.
    pub listeners: Mutex<Vec<admin::Listener>>,
    /// When the listeners' certificate expires, in seconds since 1970.
    pub certificate_expires: Option<i64>,
    /// What answers over HTTP.
    pub admin: Arc<admin::Admin>,
    /// The management API and the console.
    pub management: axum::Router,
    /// Metrics.
    pub metrics: axum::Router,
}

/// Runs the broker until it is told to stop.
///
/// # Errors
/// If it cannot start.
pub fn run(options: &ServeOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let config = Config::load(options, std::env::vars())?;
    telemetry::start(&config.log)?;
    end_with_the_log();
    raise_file_limit();
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.enable_all();
    if config.threads > 0 {
        threads.worker_threads(config.threads);
    }
    // Connections get their turns in the order in which something came for them, not the last one first.
    #[cfg(tokio_unstable)]
    threads.disable_lifo_slot();
    let runtime = threads.build().context("cannot start threads")?;
    runtime.block_on(serve(config, started))
}

async fn serve(config: Config, started: Instant) -> anyhow::Result<()> {
    let tls = tls::server_config(&config.tls)?;
    let clock = Clock::start();
    let spans = otlp::spans(&config);
    let Opened { broker, sessions, openwire_shared, store, pager, pager_tasks } =
        open(&config, spans.clone(), clock.now())?;
    let authenticator = Arc::new(Authenticator::new(Arc::clone(&broker), &config, clock)?);
    let certificate_expires = config.tls.certificate.as_deref().and_then(tls::expires);
    let server = Arc::new_cyclic(|weak| {
        let admin = Arc::new(admin::Admin {
            broker: Arc::clone(&broker),
            host: Arc::new(ServerHost::new(weak.clone())),
            sampler: Arc::new(admin::Sampler::new(config.management.sample_interval_ms)),
            version: config.amqp.version.clone(),
        });
        Server {
            authenticator,
            broker,
            store,
            pager,
            pager_tasks,
            amqp: Arc::new(amqp_settings(&config)),
            mqtt: Arc::new(mqtt_settings(&config)),
            stomp: Arc::new(stomp_settings(&config)),
            openwire: Arc::new(openwire_settings(&config)),
            openwire_shared,
            sessions,
            clock,
            shutdown: Shutdown::new(),
            connections: Arc::default(),
            before_login: Arc::default(),
            turned_away: TurnedAway::new(clock),
            listeners: Mutex::default(),
            certificate_expires,
            management: admin::router(Arc::clone(&admin)),
            metrics: admin::metrics::router(Arc::clone(&admin)),
            admin,
            config,
        }
    });
    server.broker.set_witness(Arc::new(openwire::Advisor::new(&server.openwire_shared, &server.openwire)));
    let exporter = Exporter::new(&server.config.otlp)?;
    let stop_signals = Stop::catch()?;
    listen(&server, tls.map(TlsAcceptor::from))?;
    let _control = control::listen(&server);
    announce(&format!("ready in {} ms, data in {}", started.elapsed().as_millis(), server.config.data.display()));
    notify::tell(notify::READY);
    if let Some(exporter) = exporter {
        let exporter = Arc::new(exporter);
        tokio::spawn(Arc::clone(&exporter).send_metrics(Arc::clone(&server)));
        if let Some(spans) = spans {
            tokio::spawn(exporter.send_spans(spans));
        }
    }
    tokio::spawn(resources::watch(Arc::clone(&server)));
    tokio::spawn(timer::run(Arc::clone(&server)));
    tokio::spawn(timer::run_sessions(Arc::clone(&server)));
    let admin = &server.admin;
    tokio::spawn(Arc::clone(&admin.sampler).run(Arc::clone(&admin.broker), Arc::clone(&admin.host)));

    stop_signals.wait().await;
    tracing::info!("stopping");
    notify::tell(notify::STOPPING);
    stop(&server).await;
    server.pager.stop();
    Ok(())
}

/// How connections of AMQP 0-9-1 are to be.
fn amqp_settings(config: &Config) -> amqp091::Settings {
    let settings = &config.amqp;
    amqp091::Settings {
        product: settings.product.clone(),
        version: settings.version.clone(),
        cluster_name: settings.cluster_name.clone(),
        channel_max: settings.channel_max,
        frame_max: settings.frame_max,
        heartbeat_s: settings.heartbeat_s,
        handshake_ms: config.limits.handshake_ms,
        refusal_delay_ms: config.limits.refusal_delay_ms,
    }
}

/// How connections of MQTT are to be.
fn mqtt_settings(config: &Config) -> mqtt::Settings {
    let settings = &config.mqtt;
    mqtt::Settings {
        vhost: settings.vhost.as_str().into(),
        anonymous_user: Some(settings.anonymous_user.as_str().into()).filter(|user: &Name| !user.is_empty()),
        handshake_ms: config.limits.handshake_ms,
        prefetch: settings.prefetch,
        receive_maximum: settings.receive_maximum.max(1),
        keep_alive_s_max: settings.keep_alive_s_max,
        topic_alias_maximum: settings.topic_alias_maximum,
        session_expiry_s_max: settings.session_expiry_s_max,
        disconnects_unauthorized: settings.disconnect_on_unauthorized,
        reveals_refusals: settings.reveal_refusals,
    }
}

/// How connections of STOMP are to be.
fn stomp_settings(config: &Config) -> stomp::Settings {
    let settings = &config.stomp;
    stomp::Settings {
        vhost: settings.vhost.as_str().into(),
        anonymous_user: Some(settings.anonymous_user.as_str().into()).filter(|user: &Name| !user.is_empty()),
        handshake_ms: config.limits.handshake_ms,
        prefetch: settings.prefetch,
        heart_beat_ms_min: settings.heart_beat_ms_min,
        head_bytes_max: settings.head_bytes_max,
        server: format!("{}/{}", config.amqp.product, config.amqp.version),
    }
}

/// How connections of OpenWire are to be.
fn openwire_settings(config: &Config) -> openwire::Settings {
    let settings = &config.openwire;
    openwire::Settings {
        vhost: settings.vhost.as_str().into(),
        anonymous_user: Some(settings.anonymous_user.as_str().into()).filter(|user: &Name| !user.is_empty()),
        broker_name: settings.broker_name.clone(),
        connected_brokers: settings.connected_brokers.clone(),
        rebalance: settings.rebalance,
        frame_max: settings.frame_bytes_max,
        max_inactivity_ms: settings.inactivity_ms_max,
        handshake_ms: config.limits.handshake_ms,
        refusal_delay_ms: config.limits.refusal_delay_ms,
        ..openwire::Settings::default()
    }
}

/// Which topics remember what was published.
fn remembered(config: &Config) -> anyhow::Result<Vec<broker::Remembered>> {
    let remembered = |recovery: &config::Recovery| {
        Ok(broker::Remembered {
            vhost: config.openwire.vhost.as_str().into(),
            exchange: openwire::TOPICS.into(),
            key: openwire::mapping::binding_key(&recovery.topics).into(),
            keep: recovery.keep()?,
            selector: recovery.selector()?,
            retain: recovery.retained.then(|| broker::Retain {
                asks: openwire::stored::RETAIN.into(),
                tells: openwire::stored::RETAINED.into(),
            }),
        })
    };
    config.openwire.recovery.iter().map(remembered).collect()
}

/// Topics that get what is sent to queues.
fn mirror(config: &Config) -> Option<broker::Mirror> {
    let prefix = Name::from(config.openwire.mirror_prefix.as_str());
    let (vhost, exchange) = (config.openwire.vhost.as_str().into(), openwire::TOPICS.into());
    (!prefix.is_empty()).then_some(broker::Mirror { vhost, exchange, prefix })
}

/// What becomes of dead letters of queues without a rule for them.
fn letters(config: &Config) -> broker::Letters {
    let settings = &config.openwire;
    let expired = settings.dead_letter_expired.then_some(openwire::ORIGIN);
    broker::Letters {
        queue: settings.dead_letter_queue.as_str().into(),
        prefix: Some(settings.dead_letter_prefix.as_str().into()),
        kept: broker::Kept { transient: settings.dead_letter_transient, expired },
    }
}

/// What stands once the log is open.
struct Opened {
    broker: Arc<Broker>,
    sessions: Arc<mqtt::Sessions>,
    openwire_shared: Arc<openwire::Shared>,
    store: Arc<Store>,
    pager: Pager,
    pager_tasks: PagerTasks,
}

/// Opens the log and brings the model back to where it was.
fn open(config: &Config, spans: Option<Arc<Spans>>, now: Millis) -> anyhow::Result<Opened> {
    std::fs::create_dir_all(&config.data).with_context(|| format!("cannot create {}", config.data.display()))?;
    let queue = PagerQueue::new();
    let pager_tasks = queue.tasks();
    let (store, contents) = Store::open(&config.data, store_options(config)?, hooks(pager_tasks.clone()))?;
    let store = Arc::new(store);
    if let Some(torn) = &contents.torn {
        tracing::warn!("{torn}. Nothing there was confirmed; it is cut off");
    }
    let seed = u128::from_le_bytes(auth::random()?);
    let message_bytes_max = config.limits.message_bytes;
    let unfinished = (message_bytes_max * limits::UNFINISHED_MESSAGES).min(resources::memory_budget(config) as u64 / 4);
    let unfinished_bytes_max = unfinished.max(message_bytes_max);
    let carries_deaths = config.amqp.carry_client_deaths;
    let node = config.amqp.cluster_name.clone();
    let letters = letters(config);
    let observer = spans.map(|spans| spans as Arc<dyn Observer>);
    let settings = broker::Settings {
        message_bytes_max,
        unfinished_bytes_max,
        seed,
        node,
        carries_deaths,
        letters,
        observer,
        remembered: remembered(config)?,
        mirror: mirror(config),
    };
    let recovered = durability::recovered(contents);
    let messages: u64 = recovered.held.iter().map(|held| held.count).sum();
    let broker = Broker::new(settings, Arc::new(queue.log(&store)), recovered, now)
        .with_context(|| format!("in {}", config.data.display()))?;
    if messages > 0 {
        tracing::info!(messages, "messages recovered");
    }
    broker.add_codec(amqp091::ORIGIN, Arc::new(amqp091::properties::PropertyCodec));
    broker.add_codec(mqtt::ORIGIN, Arc::new(mqtt::message::PropertyCodec));
    broker.add_codec(openwire::ORIGIN, Arc::new(openwire::stored::MessageCodec));
    broker.add_codec(stomp::ORIGIN, Arc::new(stomp::message::PropertyCodec));
    let broker = Arc::new(broker);
    // What they know of messages has to be told before the pager brings any.
    let sessions = Arc::new(mqtt::Sessions::new(&broker, config.mqtt.sys_interval_s.saturating_mul(1000)));
    let openwire_shared = Arc::new(openwire::Shared::restored(&broker));
    let prepared = openwire_shared.branches.prepared();
    if prepared > 0 {
        tracing::warn!(prepared, "prepared XA transactions wait for their transaction manager");
    }
    let pager = queue.start(&store, &broker).context("cannot start a thread")?;
    declare(config, &broker)?;
    Ok(Opened { broker, sessions, openwire_shared, store, pager, pager_tasks })
}

/// How the configuration wants the log to be opened.
///
/// # Errors
/// If a key cannot be read.
pub fn store_options(config: &Config) -> anyhow::Result<store::Options> {
    Ok(store::Options {
        keys: keys::load(&config.store)?,
        segment_bytes: config.store.segment_bytes,
        rewrite_bytes_per_second: config.store.rewrite_bytes_per_second,
        ..store::Options::default()
    })
}

/// What the store tells.
fn hooks(pager_tasks: PagerTasks) -> store::Hooks {
    store::Hooks {
        on_failure: Box::new(|error| {
            // Whatever is told from now on could be untrue after a restart, so nothing more is told.
            tracing::error!("{error}");
            std::process::exit(74);
        }),
        on_sealed: Box::new(move |sealed| pager_tasks.sealed(sealed)),
        on_trouble: Box::new(|trouble| tracing::warn!("{trouble}")),
    }
}

/// Sets up what the configuration names: vhosts and users.
fn declare(config: &Config, broker: &Broker) -> anyhow::Result<()> {
    for vhost in &config.vhosts {
        broker.add_vhost(&vhost.as_str().into());
    }
    for user in &config.users {
        let user = &with_groups(config, user.clone())?;
        let made = make_user(user).with_context(|| format!("user '{}'", user.name))?;
        broker.put_user(&user.name.as_str().into(), made);
    }
    if broker.identity.is_empty() {
        broker.put_user(&"guest".into(), default_user()?);
    }
    Ok(())
}

fn pattern(text: &str) -> anyhow::Result<Pattern> {
    Pattern::new(text).map_err(anyhow::Error::msg)
}

/// `guest`, as on a fresh RabbitMQ.
fn default_user() -> anyhow::Result<User> {
    let all = || pattern(".*");
    let permissions = Permissions { configure: all()?, write: all()?, read: all()? };
    Ok(User {
        password_hash: auth::hash("guest", None)?,
        tags: vec!["administrator".into()],
        permissions: [("/".into(), permissions)].into(),
        ..User::default()
    })
}

/// A user with what his groups may do.
fn with_groups(config: &Config, mut user: config::User) -> anyhow::Result<config::User> {
    let vhost = &config.openwire.vhost;
    if user.groups.is_empty() {
        return Ok(user);
    }
    if user.permissions.iter().any(|permission| permission.vhost == *vhost) {
        anyhow::bail!("user '{}' has groups, and permissions on the vhost '{vhost}' besides", user.name);
    }
    let entries = &config.openwire.authorization;
    let (permission, topics) = auth::destinations::permissions(entries, &user.groups, vhost);
    user.permissions.push(permission);
    user.topic_permissions.push(topics);
    Ok(user)
}

fn make_user(user: &config::User) -> anyhow::Result<User> {
    let password_hash = match (&user.password, &user.password_hash) {
        (Some(_), Some(_)) => anyhow::bail!("has both a password and a password_hash"),
        (Some(password), None) => auth::hash(password, user.hashing_algorithm.as_deref())?,
        (None, Some(hash)) => auth::import(hash, user.hashing_algorithm.as_deref())?,
        (None, None) => String::new(),
    };
    let mut made =
        User { password_hash, tags: user.tags.iter().map(|tag| tag.as_str().into()).collect(), ..User::default() };
    for permission in &user.permissions {
        let (configure, write, read) =
            (pattern(&permission.configure)?, pattern(&permission.write)?, pattern(&permission.read)?);
        made.permissions.insert(permission.vhost.as_str().into(), Permissions { configure, write, read });
    }
    for permission in &user.topic_permissions {
        let place: (Name, Name) = (permission.vhost.as_str().into(), permission.exchange.as_str().into());
        let permissions = TopicPermissions { write: permission.write.clone(), read: permission.read.clone() };
        made.topic_permissions.insert(place, permissions);
    }
    Ok(made)
}

/// Says something to whoever started the broker. That nobody listens is no reason to end.
fn announce(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Opens every listener and says so.
fn listen(server: &Arc<Server>, acceptor: Option<TlsAcceptor>) -> anyhow::Result<()> {
    let config = &server.config;
    let asked_for = !config.bind.is_empty();
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = if asked_for { &config.bind[..] } else { &loopback[..] };
    for (name, protocol, port, acceptor) in listeners_of(config, acceptor) {
        let beyond = || format!("{name}: port {port} and an offset of {} are beyond 65535", config.port_offset);
        let port = if port == 0 { 0 } else { port.checked_add(config.port_offset).with_context(beyond)? };
        for &address in addresses {
            let listener = match listener::bind(address, port) {
                Ok(listener) => listener,
                // A machine without IPv6 is no reason to fail as long as nobody asked for it.
                Err(error) if address.is_ipv6() && !asked_for => {
                    tracing::info!("{error:#}");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let bound = listener.local_addr()?;
            announce(&format!("listening {name} {bound}"));
            server.listeners.lock().push(admin::Listener {
                protocol: host::protocol_name(name).into(),
                address: bound.ip(),
                port: bound.port(),
                tls: acceptor.is_some(),
            });
            tokio::spawn(listener::accept(listener, protocol, Arc::clone(server), acceptor.clone()));
        }
    }
    Ok(())
}

type Listener = (&'static str, Protocol, u16, Option<TlsAcceptor>);

/// Every listener: its name, what is spoken there, its port without offset, and how it is encrypted.
fn listeners_of(config: &Config, acceptor: Option<TlsAcceptor>) -> Vec<Listener> {
    let (amqp, mqtt, stomp, openwire) = (&config.amqp, &config.mqtt, &config.stomp, &config.openwire);
    let mut listeners = vec![
        ("amqp", Protocol::Amqp, amqp.port, None),
        ("mqtt", Protocol::Mqtt, mqtt.port, None),
        ("mqtt-ws", Protocol::MqttOverWebSocket, mqtt.ws_port, None),
        ("stomp", Protocol::Stomp, stomp.port, None),
        ("stomp-ws", Protocol::StompOverWebSocket, stomp.ws_port, None),
        ("openwire", Protocol::OpenWire, openwire.port, None),
        ("http", Protocol::Management, config.management.port, None),
        ("prometheus", Protocol::Metrics, config.prometheus.port, None),
    ];
    if let Some(acceptor) = acceptor {
        let encrypted = [
            ("amqps", Protocol::Amqp, amqp.tls_port),
            ("mqtts", Protocol::Mqtt, mqtt.tls_port),
            ("mqtt-wss", Protocol::MqttOverWebSocket, mqtt.wss_port),
            ("stomps", Protocol::Stomp, stomp.tls_port),
            ("stomp-wss", Protocol::StompOverWebSocket, stomp.wss_port),
            ("openwires", Protocol::OpenWire, openwire.tls_port),
            ("wss", Protocol::WebSocket, config.websocket.tls_port),
            ("https", Protocol::Management, config.management.tls_port),
        ];
        let encrypted = encrypted.map(|(name, protocol, port)| (name, protocol, port, Some(acceptor.clone())));
        listeners.extend(encrypted);
    }
    listeners
}

/// The signals that end the broker in order. They are caught from here on, so this comes before anybody is told that the
/// broker is ready.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn catch() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells every client, and gives them time to say goodbye. What the log has not written is written when the store goes.
async fn stop(server: &Arc<Server>) {
    server.shutdown.begin();
    let deadline = Instant::now() + CLOSE_WITHIN;
    while server.connections.load(std::sync::atomic::Ordering::Relaxed) > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Without the threads of the log nothing would ever be confirmed or read again: better to end, and start anew.
fn end_with_the_log() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}");
        usual(panic);
        let ending = [store::WRITER_THREAD, store::KEEPER_THREAD, "pager"];
        if std::thread::current().name().is_some_and(|name| ending.contains(&name)) {
            std::process::exit(70);
        }
    }));
}

/// A connection is a file: as many as the system lets us have.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
