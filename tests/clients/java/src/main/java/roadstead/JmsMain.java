package roadstead;

import java.util.List;

/** ActiveMQ's client, by JMS, against the broker in OPENWIRE_URI. */
public final class JmsMain {
    private JmsMain() {}

    public static void main(String[] names) {
        if (System.getenv("OPENWIRE_URI") == null) {
            System.err.println("OPENWIRE_URI is not set, e.g. tcp://127.0.0.1:61616");
            System.exit(2);
        }
        Suite suite = new Suite();
        JmsMessages.addTo(suite);
        JmsTopics.addTo(suite);
        JmsAcknowledgements.addTo(suite);
        JmsSelective.addTo(suite);
        JmsConnections.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
