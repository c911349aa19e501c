package roadstead;

import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/** One check's clients in one version, and the sessions and topics that it must not leave behind. */
final class MqttSession implements AutoCloseable {
    static final String[] VERSIONS = {"v3.1", "v3.1.1", "v5"};

    private static final URI BROKER = URI.create(System.getenv("MQTT_URI"));

    final String version;
    private final List<MqttClient> clients = new ArrayList<>();
    private final List<String> kept = new ArrayList<>();
    private final List<String> retained = new ArrayList<>();

    MqttSession(String version) {
        this.version = version;
    }

    static String address() {
        return "tcp://" + BROKER.getHost() + ":" + BROKER.getPort();
    }

    static String user() {
        return BROKER.getUserInfo() == null ? null : BROKER.getUserInfo().split(":")[0];
    }

    static String password() {
        return BROKER.getUserInfo().split(":")[1];
    }

    /** An identifier that MQTT 3.1 takes too: at most 23 letters and digits. */
    static String newId() {
        return "roadstead" + UUID.randomUUID().toString().replace("-", "").substring(0, 12);
    }

    static String newTopic() {
        return "roadstead/t/" + newId();
    }

    MqttClient connect(MqttOptions options) throws Exception {
        if (options.keep) {
            kept.add(options.id);
        }
        MqttClient client = switch (version) {
            case "v3.1" -> new Mqtt3Client(3, options);
            case "v3.1.1" -> new Mqtt3Client(4, options);
            default -> new Mqtt5Client(options);
        };
        clients.add(client);
        return client;
    }

    MqttClient connect() throws Exception {
        return connect(new MqttOptions());
    }

    MqttClient listener(int qos, String... filters) throws Exception {
        MqttClient client = connect();
        client.subscribe(qos, filters);
        return client;
    }

    void retain(MqttClient client, String topic, String payload) throws Exception {
        retained.add(topic);
        client.publish(topic, Session.bytes(payload), 1, true);
    }

    void forget(String topic) {
        retained.add(topic);
    }

    @Override
    public void close() throws Exception {
        for (MqttClient client : clients) {
            try {
                client.drop();
            } catch (Exception gone) {
                // the check has closed it
            }
        }
        for (String id : List.copyOf(kept)) {
            connect(new MqttOptions().id(id)).disconnect();
        }
        if (!retained.isEmpty()) {
            MqttClient cleaner = connect();
            for (String topic : retained) {
                cleaner.publish(topic, new byte[0], 1, true);
            }
            cleaner.disconnect();
        }
    }
}
