package roadstead;

import java.util.List;

/** The RabbitMQ Java client against the broker in AMQP_URI. */
public final class Main {
    private Main() {}

    public static void main(String[] names) {
        if (System.getenv("AMQP_URI") == null) {
            System.err.println("AMQP_URI is not set, e.g. amqp://guest:guest@127.0.0.1:5672/%2F");
            System.exit(2);
        }
        Suite suite = new Suite();
        Topology.addTo(suite);
        Features.addTo(suite);
        Streams.addTo(suite);
        Messages.addTo(suite);
        Refusals.addTo(suite);
        System.exit(suite.run(List.of(names)) ? 0 : 1);
    }
}
