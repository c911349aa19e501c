package roadstead;

import static roadstead.MqttSession.newTopic;
import static roadstead.Session.numbered;
import static roadstead.Suite.equal;
import static roadstead.Suite.until;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** What runs in every version. */
final class MqttChecks {
    interface Check {
        void run(MqttSession session) throws Exception;
    }

    private static final Map<String, Check> CHECKS = new LinkedHashMap<>();

    static {
        CHECKS.put("qos", MqttChecks::qos);
        CHECKS.put("order", MqttChecks::order);
        CHECKS.put("retained", MqttChecks::retained);
        CHECKS.put("offline-messages", MqttChecks::offline);
        CHECKS.put("will", MqttChecks::will);
        CHECKS.put("retained-will", MqttChecks::retainedWill);
        CHECKS.put("shared-subscription", MqttChecks::shared);
        CHECKS.put("unsubscribe", MqttChecks::unsubscribe);
        CHECKS.put("payload-sizes", MqttChecks::sizes);
        CHECKS.put("takeover", MqttChecks::takeover);
        CHECKS.put("granted-qos", MqttChecks::granted);
    }

    /** The clients sleep a lot while they start and end, so several checks run at a time. */
    private final ExecutorService threads = Executors.newFixedThreadPool(8);

    private final Suite suite;
    private final List<String> only;

    MqttChecks(Suite suite, List<String> only) {
        this.suite = suite;
        this.only = only;
    }

    void addAll() {
        CHECKS.forEach((name, check) -> {
            for (String version : MqttSession.VERSIONS) {
                add(name + "-" + version, version, check);
            }
        });
    }

    /** Begins a check, and adds what waits for its end. */
    void add(String name, String version, Check check) {
        if (!only.isEmpty() && !only.contains(name)) {
            return;
        }
        Future<?> end = threads.submit(() -> {
            try (MqttSession session = new MqttSession(version)) {
                check.run(session);
            }
            return null;
        });
        suite.add(name, unused -> {
            try {
                end.get();
            } catch (ExecutionException failure) {
                if (failure.getCause() instanceof Error wrong) {
                    throw wrong;
                }
                throw (Exception) failure.getCause();
            }
        });
    }

    private static void qos(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient publisher = session.connect();
        List<MqttClient> listeners = List.of(session.listener(0, topic), session.listener(1, topic), session.listener(2, topic));
        for (int qos = 0; qos < 3; qos++) {
            publisher.publish(topic, "with " + qos, qos);
            for (int level = 0; level < 3; level++) {
                listeners.get(level).expect(topic, "with " + qos, Math.min(qos, level), false);
            }
        }
    }

    private static void order(MqttSession session) throws Exception {
        MqttClient publisher = session.connect();
        for (int qos = 0; qos < 3; qos++) {
            String topic = newTopic();
            MqttClient listener = session.listener(qos, topic);
            for (String body : numbered(50)) {
                publisher.publish(topic, body, qos);
            }
            equal(listener.payloads(50), Arrays.asList(numbered(50)), "the messages with QoS " + qos);
        }
    }

    private static void retained(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient publisher = session.connect();
        session.retain(publisher, topic + "/a", "a");
        session.retain(publisher, topic + "/b", "b");
        List<String> got = new ArrayList<>(session.listener(1, topic + "/+").payloads(2));
        Collections.sort(got);
        equal(got, List.of("a", "b"), "what is retained");
        publisher.publish(topic + "/a", new byte[0], 1, true);
        MqttClient late = session.listener(1, topic + "/+");
        late.expect(topic + "/b", "b", 1, true);
        publisher.publish(topic + "/a", "live", 1);
        late.expect(topic + "/a", "live", 1, false);
    }

    private static void offline(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient kept = session.connect(new MqttOptions().keep());
        MqttClient publisher = session.connect();
        kept.subscribe(2, topic);
        kept.disconnect();
        for (String body : numbered(20)) {
            publisher.publish(topic, body, 2);
        }
        MqttClient again = session.connect(new MqttOptions().id(kept.id).keep());
        if (!session.version.equals("v3.1")) {
            equal(again.sessionPresent(), true, "session present");
        }
        equal(again.payloads(20), Arrays.asList(numbered(20)), "the messages");
    }

    private static void will(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient watcher = session.listener(2, topic);
        session.connect(new MqttOptions().will(new MqttClient.Will(topic, "left", 1))).disconnect();
        for (int qos = 0; qos < 3; qos++) {
            session.connect(new MqttOptions().will(new MqttClient.Will(topic, "gone", qos))).drop();
            watcher.expect(topic, "gone", qos, false);
        }
    }

    private static void retainedWill(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient watcher = session.listener(1, topic);
        session.forget(topic);
        MqttClient.Will will = new MqttClient.Will(topic, "gone", 1, true, new MqttClient.Will(topic, "", 0).properties());
        session.connect(new MqttOptions().will(will)).drop();
        watcher.expect(topic, "gone", 1, false);
        session.listener(1, topic).expect(topic, "gone", 1, true);
    }

    private static void shared(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient publisher = session.connect();
        MqttClient alone = session.listener(1, topic);
        String group = "$share/group/" + topic;
        List<MqttClient> members = List.of(session.listener(1, group), session.listener(1, group));
        for (String body : numbered(40)) {
            publisher.publish(topic, body, 1);
        }
        equal(alone.payloads(40), Arrays.asList(numbered(40)), "what an ordinary subscriber got");
        List<String> got = new ArrayList<>();
        until(() -> {
            for (MqttClient member : members) {
                got.addAll(member.payloads(member.messages.size()));
            }
            return got.size() >= 40;
        }, "the group has 40 messages");
        List<String> expected = new ArrayList<>(Arrays.asList(numbered(40)));
        Collections.sort(expected);
        Collections.sort(got);
        equal(got, expected, "what the group got");
    }

    private static void unsubscribe(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient publisher = session.connect();
        MqttClient listener = session.listener(1, topic + "/a", topic + "/b");
        listener.unsubscribe(topic + "/a");
        publisher.publish(topic + "/a", "a", 1);
        publisher.publish(topic + "/b", "b", 1);
        listener.expect(topic + "/b", "b", 1, false);
    }

    private static void sizes(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient publisher = session.connect();
        MqttClient listener = session.listener(2, topic);
        int[] sizes = {0, 1, 127, 128, 16_384, 1024 * 1024};
        for (int index = 0; index < sizes.length; index++) {
            byte[] body = new byte[sizes[index]];
            new Random(index).nextBytes(body);
            publisher.publish(topic, body, index % 3, false);
            equal(Arrays.equals(listener.next().payload(), body), true, "whether the payload is the same");
        }
    }

    private static void takeover(MqttSession session) throws Exception {
        MqttClient first = session.connect();
        MqttClient second = session.connect(new MqttOptions().id(first.id));
        equal(first.ended(), session.version.equals("v5") ? 0x8E : 0, "the code of the end");
        String topic = newTopic();
        second.subscribe(1, topic);
        second.publish(topic, "still there", 1);
        second.expect(topic, "still there", 1, false);
    }

    private static void granted(MqttSession session) throws Exception {
        String topic = newTopic();
        MqttClient client = session.connect();
        for (int qos = 0; qos < 3; qos++) {
            equal(client.subscribe(qos, topic + "/a", topic + "/b"), List.of(qos, qos), "the codes of SUBACK");
        }
    }
}
