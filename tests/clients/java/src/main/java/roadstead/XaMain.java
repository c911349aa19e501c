package roadstead;

import java.util.List;

/** ActiveMQ's client, by XA, against the broker in OPENWIRE_URI: branches by hand, and with a transaction manager. */
public final class XaMain {
    private XaMain() {}

    public static void main(String[] names) {
        Jms.require();
        Suite suite = new Suite();
        // The transaction manager prints what is no verdict.
        System.setOut(System.err);
        XaBranches.addTo(suite);
        XaManaged.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
