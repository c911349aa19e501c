package roadstead;

import static roadstead.MqttSession.newId;
import static roadstead.MqttSession.newTopic;
import static roadstead.Session.numbered;
import static roadstead.Suite.equal;

import java.util.Arrays;
import java.util.List;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.common.MqttSubscription;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;

/** What only version 5 has. */
final class Mqtt5Checks {
    private static final List<UserProperty> USER =
            List.of(new UserProperty("b", "1"), new UserProperty("a", "ä"), new UserProperty("b", "1"));

    private Mqtt5Checks() {}

    static void addTo(MqttChecks checks) {
        checks.add("properties", "v5", Mqtt5Checks::properties);
        checks.add("subscription-identifier", "v5", Mqtt5Checks::identifier);
        checks.add("options-of-subscriptions", "v5", Mqtt5Checks::options);
        checks.add("session-expiry", "v5", Mqtt5Checks::expiry);
        checks.add("will-with-properties", "v5", Mqtt5Checks::will);
        checks.add("request-and-response", "v5", Mqtt5Checks::request);
        checks.add("topic-alias", "v5", Mqtt5Checks::topicAlias);
        checks.add("receive-maximum", "v5", Mqtt5Checks::receiveMaximum);
        checks.add("maximum-packet-size", "v5", Mqtt5Checks::packetSize);
        checks.add("assigned-client-id", "v5", Mqtt5Checks::assignedId);
        checks.add("codes-of-unsuback", "v5", Mqtt5Checks::unsubackCodes);
    }

    private static Mqtt5Client connect(MqttSession session, MqttOptions options) throws Exception {
        return (Mqtt5Client) session.connect(options);
    }

    private static Mqtt5Client connect(MqttSession session) throws Exception {
        return connect(session, new MqttOptions());
    }

    private static MqttProperties some() {
        MqttProperties properties = new MqttProperties();
        properties.setContentType("text/plain");
        properties.setResponseTopic("replies/a");
        properties.setCorrelationData(new byte[] {0, -1});
        properties.setPayloadFormat(true);
        properties.setUserProperties(USER);
        return properties;
    }

    private static String described(MqttProperties found) {
        List<String> user = found.getUserProperties().stream().map(each -> each.getKey() + "=" + each.getValue()).toList();
        String data = Arrays.toString(found.getCorrelationData());
        return String.join("|", found.getContentType(), found.getResponseTopic(), data, "" + found.getPayloadFormat(), "" + user);
    }

    private static void properties(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient listener = session.listener(1, topic);
        MqttProperties sent = some();
        sent.setMessageExpiryInterval(1000L);
        connect(session).publish(topic, "x", sent);
        MqttProperties found = listener.expect(topic, "x", 1, false).properties();
        equal(described(found), described(some()), "the properties");
        equal(List.of(999L, 1000L).contains(found.getMessageExpiryInterval()), true, "whether nearly 1000 s are left");
    }

    private static void identifier(MqttSession session) throws Exception {
        String topic = newTopic();
        Mqtt5Client listener = connect(session);
        MqttProperties properties = new MqttProperties();
        properties.setSubscriptionIdentifier(268_435_455);
        listener.subscribe(properties, new MqttSubscription(topic, 1));
        session.connect().publish(topic, "x", 1);
        MqttProperties found = listener.expect(topic, "x", 1, false).properties();
        equal(found.getSubscriptionIdentifiers(), List.of(268_435_455), "the subscription identifiers");
    }

    private static void options(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient other = session.connect();
        Mqtt5Client client = connect(session);
        session.retain(other, topic, "retained");
        MqttSubscription subscription = new MqttSubscription(topic, 1);
        subscription.setNoLocal(true);
        subscription.setRetainAsPublished(true);
        subscription.setRetainHandling(2);
        client.subscribe(new MqttProperties(), subscription);
        client.publish(topic, "own", 1);
        session.retain(other, topic, "of another");
        client.expect(topic, "of another", 1, true);
    }

    private static void expiry(MqttSession session) throws Exception {
        String id = newId();
        connectFor(session, id, 60).disconnect();
        Mqtt5Client again = connectFor(session, id, 0);
        equal(again.sessionPresent(), true, "session present after an expiry of 60 s");
        again.disconnect();
        equal(connectFor(session, id, 0).sessionPresent(), false, "session present after an expiry of 0 s");
    }

    private static Mqtt5Client connectFor(MqttSession session, String id, long seconds) throws Exception {
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setSessionExpiryInterval(seconds);
        return connect(session, new MqttOptions().id(id).keep().five(options));
    }

    private static void will(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient watcher = session.listener(1, topic);
        MqttProperties properties = some();
        properties.setWillDelayInterval(1L);
        MqttClient.Will will = new MqttClient.Will(topic, "gone", 1, false, properties);
        long begun = System.currentTimeMillis();
        connect(session, new MqttOptions().keep().will(will)).drop();
        equal(described(watcher.expect(topic, "gone", 1, false).properties()), described(some()), "the properties");
        equal(System.currentTimeMillis() - begun >= 500, true, "whether the will was delayed");
    }

    private static void request(MqttSession session) throws Exception {
        String requests = newTopic();
        String replies = newTopic();
        Mqtt5Client responder = connect(session);
        Mqtt5Client requester = connect(session);
        responder.subscribe(1, requests);
        requester.subscribe(1, replies);
        MqttProperties sent = new MqttProperties();
        sent.setResponseTopic(replies);
        sent.setCorrelationData(Session.bytes("7"));
        requester.publish(requests, "ping", sent);
        MqttProperties request = responder.expect(requests, "ping", 1, false).properties();
        MqttProperties answer = new MqttProperties();
        answer.setCorrelationData(request.getCorrelationData());
        responder.publish(request.getResponseTopic(), "pong", answer);
        MqttProperties found = requester.expect(replies, "pong", 1, false).properties();
        equal(Session.text(found.getCorrelationData()), "7", "the correlation data");
    }

    /** The client makes use of the broker's aliases by itself. It must not offer any: it takes those that come for empty topics. */
    private static void topicAlias(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient client = session.connect();
        client.subscribe(1, topic + "/+");
        for (int number = 0; number < 10; number++) {
            String each = topic + "/" + number % 3;
            client.publish(each, each, 1);
            client.expect(each, each, 1, false);
        }
    }

    private static void receiveMaximum(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient publisher = session.connect();
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setReceiveMaximum(2);
        MqttClient listener = session.connect(new MqttOptions().five(options));
        listener.subscribe(2, topic);
        for (String body : numbered(20)) {
            publisher.publish(topic, body, 2);
        }
        equal(listener.payloads(20), Arrays.asList(numbered(20)), "the messages");
    }

    private static void packetSize(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient publisher = session.connect();
        MqttConnectionOptions options = new MqttConnectionOptions();
        options.setMaximumPacketSize(500L);
        MqttClient listener = session.connect(new MqttOptions().five(options));
        listener.subscribe(1, topic);
        publisher.publish(topic, "x".repeat(1000), 1);
        publisher.publish(topic, "small", 1);
        listener.expect(topic, "small", 1, false);
    }

    private static void assignedId(MqttSession session) throws Exception {
        Mqtt5Client client = connect(session, new MqttOptions().id(""));
        String assigned = client.connack.getResponseProperties().getAssignedClientIdentifier();
        equal(assigned != null && !assigned.isEmpty(), true, "whether an identifier is assigned");
    }

    private static void unsubackCodes(MqttSession session) throws Exception {
        String topic = newTopic();
        Mqtt5Client client = connect(session);
        client.subscribe(1, topic);
        equal(client.unsubscribeCodes(topic, topic + "/none"), List.of(0, 0x11), "the codes of UNSUBACK");
    }
}
