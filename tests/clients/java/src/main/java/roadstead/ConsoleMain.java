package roadstead;

import java.util.List;

/** ActiveMQ's own commands, {@code activemq producer} and {@code activemq consumer}, against the broker in OPENWIRE_URI. */
public final class ConsoleMain {
    private ConsoleMain() {}

    public static void main(String[] names) {
        Jms.require();
        Suite suite = new Suite();
        Console.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
