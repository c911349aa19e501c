package roadstead;

import java.util.List;

/** Spring's templates and listener containers, with ActiveMQ's client, against the broker in OPENWIRE_URI. */
public final class SpringMain {
    private SpringMain() {}

    public static void main(String[] names) {
        Jms.require();
        Suite suite = new Suite();
        SpringTemplates.addTo(suite);
        SpringContainers.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
