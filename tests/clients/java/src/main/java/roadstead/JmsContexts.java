package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.deliveries;
import static roadstead.Jms.text;
import static roadstead.Suite.equal;

import jakarta.jms.BytesMessage;
import jakarta.jms.DeliveryMode;
import jakarta.jms.InvalidClientIDRuntimeException;
import jakarta.jms.InvalidDestinationRuntimeException;
import jakarta.jms.JMSConsumer;
import jakarta.jms.JMSContext;
import jakarta.jms.JMSException;
import jakarta.jms.MapMessage;
import jakarta.jms.Message;
import jakarta.jms.ObjectMessage;
import jakarta.jms.Queue;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/** The simplified API of JMS 2.0. */
final class JmsContexts {
    private JmsContexts() {}

    static void addTo(Suite suite) {
        suite.add("a-context-that-acknowledges", session -> automatic());
        suite.add("a-context-whose-client-acknowledges", session -> client());
        suite.add("a-context-that-may-see-duplicates", session -> duplicates());
        suite.add("a-context-with-transactions", session -> transacted());
        suite.add("a-context-of-a-context", session -> nested());
        suite.add("a-context-does-not-start-by-itself", session -> start());
        suite.add("a-context-closes-with-what-it-had", session -> closes());
        suite.add("a-producer-of-a-context-sets-everything", session -> producer());
        suite.add("a-context-sends-every-kind-of-body", session -> bodies());
        suite.add("a-context-listens", session -> listens());
        suite.add("a-context-with-a-durable-subscription", session -> durable());
        suite.add("a-context-with-temporary-queues", session -> temporary());
        suite.add("exceptions-of-contexts", session -> exceptions());
        suite.add("what-the-client-says-of-itself", session -> metaData());
    }

    private static JMSContext open(int mode) {
        try {
            return Jms.factory("").createContext(mode);
        } catch (UnsupportedOperationException missing) {
            // Before version 6.
            throw new Suite.Skipped("limit of the client: " + missing.getMessage());
        }
    }

    private static Queue queue(JMSContext context) {
        return context.createQueue(Jms.unique("context"));
    }

    private static void expect(JMSConsumer consumer, String... expected) throws JMSException {
        for (String each : expected) {
            equal(text(consumer.receive(PATIENCE)), each, "what came");
        }
    }

    private static void nothing(JMSConsumer consumer) {
        equal(consumer.receive(Jms.MOMENT), null, "what came at last");
    }

    private static void automatic() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            Queue queue = queue(context);
            context.createProducer().send(queue, "a").send(queue, "b");
            JMSConsumer consumer = context.createConsumer(queue);
            expect(consumer, "a");
            consumer.close();
            consumer = context.createConsumer(queue);
            expect(consumer, "b");
            nothing(consumer);
        }
    }

    private static void client() throws Exception {
        try (JMSContext context = open(JMSContext.CLIENT_ACKNOWLEDGE)) {
            Queue queue = queue(context);
            context.createProducer().send(queue, "a").send(queue, "b").send(queue, "c");
            JMSConsumer consumer = context.createConsumer(queue);
            expect(consumer, "a", "b");
            context.recover();
            Message again = consumer.receive(PATIENCE);
            equal(text(again), "a", "what comes again");
            equal(deliveries(again), 2, "the count of deliveries");
            context.acknowledge();
            consumer.close();
            try (JMSContext other = open(JMSContext.AUTO_ACKNOWLEDGE)) {
                JMSConsumer rest = other.createConsumer(queue);
                expect(rest, "b", "c");
                nothing(rest);
            }
        }
    }

    private static void duplicates() throws Exception {
        Queue queue;
        try (JMSContext context = open(JMSContext.DUPS_OK_ACKNOWLEDGE)) {
            queue = queue(context);
            context.createProducer().send(queue, "a").send(queue, "b");
            JMSConsumer consumer = context.createConsumer(queue);
            expect(consumer, "a", "b");
            consumer.close();
        }
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            nothing(context.createConsumer(queue));
        }
    }

    private static void transacted() throws Exception {
        try (JMSContext context = open(JMSContext.SESSION_TRANSACTED); JMSContext other = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            equal(context.getTransacted(), true, "whether it has transactions");
            Queue queue = queue(context);
            JMSConsumer consumer = other.createConsumer(queue);
            context.createProducer().send(queue, "lost");
            context.rollback();
            context.createProducer().send(queue, "kept");
            nothing(consumer);
            context.commit();
            expect(consumer, "kept");
        }
    }

    private static void nested() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            Queue queue = queue(context);
            try (JMSContext inner = context.createContext(JMSContext.SESSION_TRANSACTED)) {
                inner.createProducer().send(queue, "inner");
                inner.commit();
            }
            // The connection goes on as long as one of them does.
            context.createProducer().send(queue, "outer");
            expect(context.createConsumer(queue), "inner", "outer");
        }
    }

    private static void start() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            context.setAutoStart(false);
            Queue queue = queue(context);
            context.createProducer().send(queue, "x");
            JMSConsumer consumer = context.createConsumer(queue);
            nothing(consumer);
            context.start();
            expect(consumer, "x");
            context.stop();
            context.createProducer().send(queue, "y");
            nothing(consumer);
            context.start();
            expect(consumer, "y");
        }
    }

    private static void closes() throws Exception {
        Queue queue;
        try (JMSContext context = open(JMSContext.CLIENT_ACKNOWLEDGE)) {
            queue = queue(context);
            context.createProducer().send(queue, "x");
            expect(context.createConsumer(queue), "x");
        }
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            Message again = context.createConsumer(queue).receive(PATIENCE);
            equal(text(again), "x", "what comes again");
            equal(again.getJMSRedelivered(), true, "whether it came before");
        }
    }

    private static void producer() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            Queue queue = queue(context);
            Queue answers = queue(context);
            context.createProducer()
                    .setDeliveryMode(DeliveryMode.NON_PERSISTENT)
                    .setPriority(7)
                    .setTimeToLive(60_000)
                    .setJMSCorrelationID("c")
                    .setJMSType("t")
                    .setJMSReplyTo(answers)
                    .setProperty("text", "v")
                    .setProperty("int", 5)
                    .setProperty("bool", true)
                    .setProperty("double", 1.5)
                    .send(queue, "x");
            Message message = context.createConsumer(queue).receive(PATIENCE);
            equal(message.getJMSDeliveryMode(), DeliveryMode.NON_PERSISTENT, "the mode");
            equal(message.getJMSPriority(), 7, "the priority");
            equal(message.getJMSExpiration(), message.getJMSTimestamp() + 60_000, "the expiration");
            equal(message.getJMSCorrelationID(), "c", "the correlation id");
            equal(message.getJMSType(), "t", "the type");
            equal(message.getJMSReplyTo(), answers, "where to reply");
            equal(message.getStringProperty("text"), "v", "a text");
            equal(message.getIntProperty("int"), 5, "a number");
            equal(message.getBooleanProperty("bool"), true, "a boolean");
            equal(message.getDoubleProperty("double"), 1.5, "a fraction");
        }
    }

    private static void bodies() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            Queue queue = queue(context);
            JMSConsumer consumer = context.createConsumer(queue);
            context.createProducer().send(queue, new byte[] {1, 2, 3});
            equal(((BytesMessage) consumer.receive(PATIENCE)).getBodyLength(), 3L, "the length of the bytes");
            context.createProducer().send(queue, Map.of("k", 5));
            equal(((MapMessage) consumer.receive(PATIENCE)).getInt("k"), 5, "the map's value");
            context.createProducer().send(queue, new ArrayList<>(List.of("x")));
            equal(((ObjectMessage) consumer.receive(PATIENCE)).getObject(), List.of("x"), "the object");
            context.createProducer().send(queue, (String) null);
            equal(text(consumer.receive(PATIENCE)), null, "no text");
            context.createProducer().send(queue, context.createMessage());
            equal(consumer.receive(PATIENCE) == null, false, "whether nothing came");
        }
    }

    private static void listens() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE); JMSContext other = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            Queue queue = queue(context);
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            context.createConsumer(queue).setMessageListener(message -> {
                try {
                    found.add(text(message));
                } catch (JMSException failure) {
                    found.add(failure.toString());
                }
            });
            for (String each : Jms.numbered(50)) {
                other.createProducer().send(queue, each);
            }
            Suite.until(() -> found.size() == 50, "all have come");
            equal(found, List.of(Jms.numbered(50)), "what came");
        }
    }

    private static void durable() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            context.setClientID(Jms.unique("client"));
            Topic topic = context.createTopic(Jms.unique("context"));
            context.createDurableConsumer(topic, "sub").close();
            context.createProducer().send(topic, "x");
            JMSConsumer consumer = context.createDurableConsumer(topic, "sub");
            expect(consumer, "x");
            consumer.close();
            context.unsubscribe("sub");
        }
    }

    private static void temporary() throws Exception {
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE); JMSContext other = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            Queue replies = context.createTemporaryQueue();
            JMSConsumer consumer = context.createConsumer(replies);
            Queue queue = queue(context);
            context.createProducer().setJMSReplyTo(replies).send(queue, "ping");
            Message request = other.createConsumer(queue).receive(PATIENCE);
            other.createProducer().send(request.getJMSReplyTo(), "pong");
            expect(consumer, "pong");
        }
    }

    private interface Attempt {
        void make();
    }

    private static void fails(Class<? extends RuntimeException> expected, Attempt attempt) {
        try {
            attempt.make();
        } catch (RuntimeException failure) {
            equal(failure.getClass(), expected, "what failed");
            return;
        }
        throw new AssertionError("this should fail");
    }

    private static void exceptions() throws Exception {
        String client = Jms.unique("client");
        try (JMSContext context = open(JMSContext.AUTO_ACKNOWLEDGE); JMSContext other = open(JMSContext.AUTO_ACKNOWLEDGE)) {
            context.setClientID(client);
            context.start();
            // Some versions of the client tell the broker at once.
            fails(InvalidClientIDRuntimeException.class, () -> {
                other.setClientID(client);
                other.start();
            });
            fails(InvalidDestinationRuntimeException.class, () -> context.unsubscribe("there is none"));
        }
    }

    private static void metaData() throws Exception {
        try (Jms jms = Jms.open()) {
            jakarta.jms.ConnectionMetaData data = jms.connection.getMetaData();
            equal(data.getJMSProviderName(), "ActiveMQ", "the provider");
            equal(data.getProviderMajorVersion() >= 5, true, "whether the version is known");
            equal(Collections.list(data.getJMSXPropertyNames()).contains("JMSXGroupID"), true, "whether groups are known");
            equal(jms.connection.getBrokerName() == null, false, "whether the broker has no name");
            equal(jms.connection.getBrokerInfo().getBrokerId().getValue().startsWith("ID:"), true, "whether the broker has an id");
        }
    }
}
