package roadstead;

import static roadstead.MqttSession.newTopic;
import static roadstead.Session.numbered;
import static roadstead.Suite.equal;
import static roadstead.Suite.restartBroker;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** One version's session, what is retained, and a client that comes back by itself, over a restart of the broker. */
final class MqttRestart {
    private final MqttSession session;
    private final String topic = newTopic();
    private final MqttClient kept;
    private final MqttClient comesBack;

    private MqttRestart(MqttSession session) throws Exception {
        this.session = session;
        kept = session.connect(new MqttOptions().keep());
        kept.subscribe(2, topic + "/queue");
        kept.disconnect();
        MqttClient publisher = session.connect();
        for (String body : numbered(5)) {
            publisher.publish(topic + "/queue", body, 2);
        }
        session.retain(publisher, topic + "/retained", "retained");
        comesBack = session.connect(new MqttOptions().keep().comesBack());
        comesBack.subscribe(1, topic + "/live");
    }

    private void judge() throws Exception {
        MqttClient again = session.connect(new MqttOptions().id(kept.id).keep());
        equal(again.payloads(5), Arrays.asList(numbered(5)), "the messages after the restart");
        session.listener(1, topic + "/retained").expect(topic + "/retained", "retained", 1, true);
        again.publish(topic + "/live", "live", 1);
        comesBack.expect(topic + "/live", "live", 1, false);
    }

    static void addTo(Suite suite) {
        suite.add("restart-keeps-sessions-and-retained", 60_000, unused -> run());
    }

    private static void run() throws Exception {
        List<MqttRestart> all = new ArrayList<>();
        try {
            for (String version : MqttSession.VERSIONS) {
                all.add(new MqttRestart(new MqttSession(version)));
            }
            restartBroker();
            for (MqttRestart each : all) {
                each.judge();
            }
        } finally {
            for (MqttRestart each : all) {
                each.session.close();
            }
        }
    }
}
