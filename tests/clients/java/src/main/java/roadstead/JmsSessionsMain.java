package roadstead;

import java.util.List;

/** ActiveMQ's client, by JMS, against the broker in OPENWIRE_URI: consumers, acknowledgements, transactions. */
public final class JmsSessionsMain {
    private JmsSessionsMain() {}

    public static void main(String[] names) {
        Jms.require();
        Suite suite = new Suite();
        JmsConsumers.addTo(suite);
        JmsSelective.addTo(suite);
        JmsGroups.addTo(suite);
        JmsAcknowledgements.addTo(suite);
        JmsRedelivery.addTo(suite);
        JmsTransactions.addTo(suite);
        JmsScheduled.addTo(suite);
        JmsContexts.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
