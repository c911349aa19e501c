package roadstead;

import java.util.List;

/** ActiveMQ's client, by JMS, against the broker in OPENWIRE_URI: messages, topics, connections. */
public final class JmsMain {
    private JmsMain() {}

    public static void main(String[] names) {
        Jms.require();
        Suite suite = new Suite();
        JmsMessages.addTo(suite);
        JmsProperties.addTo(suite);
        JmsProducers.addTo(suite);
        JmsTopics.addTo(suite);
        JmsPatterns.addTo(suite);
        JmsDurables.addTo(suite);
        JmsRequests.addTo(suite);
        JmsAdvisories.addTo(suite);
        JmsFactories.addTo(suite);
        JmsConnections.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
