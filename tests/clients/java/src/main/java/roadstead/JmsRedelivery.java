package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.deliveries;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.numbered;
import static roadstead.Jms.text;
import static roadstead.Suite.equal;

import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.apache.activemq.ActiveMQSession;
import org.apache.activemq.RedeliveryPolicy;

/** What comes again, how often it says that it came, and when it is a dead letter. */
final class JmsRedelivery {
    private JmsRedelivery() {}

    static void addTo(Suite suite) {
        suite.add("each-rollback-is-counted", session -> rollbacks());
        suite.add("each-recovery-is-counted", session -> recoveries());
        suite.add("a-rollback-keeps-the-order", session -> order());
        suite.add("a-closed-session-returns-what-it-had", session -> closedSession());
        suite.add("a-closed-connection-returns-what-it-had", session -> closedConnection());
        suite.add("what-nobody-saw-did-not-come-before", session -> unseen());
        suite.add("a-listener-that-fails-gets-it-again", session -> failingListener());
        suite.add("a-listener-that-fails-and-acknowledges-itself", session -> failingClientListener());
        suite.add("a-listener-that-always-fails-makes-a-dead-letter", session -> hopelessListener());
        suite.add("without-redelivery-the-first-rollback-makes-a-dead-letter", session -> noRedelivery());
        suite.add("redelivery-without-end", session -> endless());
        suite.add("a-dead-letter-tells-where-it-was", session -> letter());
        suite.add("a-dead-letter-tells-why-it-is-one", session -> cause());
        suite.add("what-expires-is-a-dead-letter", session -> expired());
        suite.add("what-is-not-persistent-is-no-dead-letter", session -> notPersistent());
        suite.add("a-dead-letter-does-not-expire", session -> lasting());
        suite.add("delays-of-redelivery-grow", session -> backOff());
        suite.add("a-queue-has-its-own-policy-of-redelivery", session -> ownPolicy());
        suite.add("others-may-overtake-what-waits-for-redelivery", session -> overtaken());
        suite.add("recovering-what-was-not-acknowledged-by-itself", session -> individualRecovery());
        suite.add("one-acknowledgement-is-for-the-whole-session", session -> wholeSession());
        suite.add("acknowledging-in-a-listener", session -> inListener());
        suite.add("late-acknowledgements-are-made-up-for-at-the-end", session -> lazyEnd());
        suite.add("acknowledgements-after-a-time", session -> scheduled());
        suite.add("optimized-acknowledgements-of-a-durable-subscription", session -> optimizedDurable());
    }

    private static void rollbacks() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("rollbacks");
            other.send(queue, "x");
            MessageConsumer consumer = jms.consumer(queue);
            for (int delivery = 1; delivery <= 4; delivery++) {
                came(consumer, "x", delivery);
                jms.session.rollback();
            }
            came(consumer, "x", 5);
            jms.session.commit();
            nothing(consumer);
        }
    }

    /** A message comes that says that it came so often. */
    private static void came(MessageConsumer consumer, String text, int deliveries) throws Exception {
        Message message = consumer.receive(PATIENCE);
        equal(text(message), text, "what came");
        equal(deliveries(message), deliveries, "the count of deliveries");
        equal(message.getJMSRedelivered(), deliveries > 1, "whether it came before");
    }

    private static void recoveries() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE)) {
            Queue queue = jms.queue("recoveries");
            jms.send(queue, "x");
            MessageConsumer consumer = jms.consumer(queue);
            for (int delivery = 1; delivery <= 3; delivery++) {
                came(consumer, "x", delivery);
                jms.session.recover();
            }
            Message last = consumer.receive(PATIENCE);
            equal(deliveries(last), 4, "the count of deliveries");
            last.acknowledge();
            nothing(consumer);
        }
    }

    private static void order() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("order");
            other.send(queue, numbered(50));
            MessageConsumer consumer = jms.consumer(queue);
            expect(consumer, numbered(20));
            jms.session.rollback();
            expect(consumer, numbered(50));
            jms.session.commit();
            nothing(consumer);
        }
    }

    private static void closedSession() throws Exception {
        for (int mode : new int[] {Session.CLIENT_ACKNOWLEDGE, Session.SESSION_TRANSACTED, ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE}) {
            try (Jms jms = Jms.open()) {
                Queue queue = jms.queue("closed");
                jms.send(queue, "x");
                Session session = jms.session(mode);
                came(session.createConsumer(queue), "x", 1);
                session.close();
                came(jms.consumer(queue), "x", 2);
            }
        }
    }

    private static void closedConnection() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("closed");
            jms.send(queue, "x");
            for (int delivery = 1; delivery <= 3; delivery++) {
                try (Jms other = Jms.open(Session.CLIENT_ACKNOWLEDGE)) {
                    came(other.consumer(queue), "x", delivery);
                }
            }
            came(jms.consumer(queue), "x", 4);
        }
    }

    private static void unseen() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("unseen");
            jms.send(queue, "a", "b", "c");
            Session session = jms.session(Session.CLIENT_ACKNOWLEDGE);
            came(session.createConsumer(queue), "a", 1);
            session.close();
            MessageConsumer consumer = jms.consumer(queue);
            came(consumer, "a", 2);
            came(consumer, "b", 1);
            came(consumer, "c", 1);
        }
    }

    private static void failingListener() throws Exception {
        for (int mode : new int[] {Session.AUTO_ACKNOWLEDGE, Session.DUPS_OK_ACKNOWLEDGE, ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE}) {
            try (Jms jms = Jms.open(mode); Jms other = Jms.open()) {
                Queue queue = jms.queue("failing");
                List<String> found = listen(jms.consumer(queue), message -> {
                    message.acknowledge();
                    if (deliveries(message) < 3) {
                        throw new IllegalArgumentException("this is to fail");
                    }
                });
                other.send(queue, "a", "b");
                if (mode == ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE) {
                    // What is acknowledged by itself does not come again, whatever happens afterwards.
                    Suite.until(() -> found.size() >= 2, "both have come");
                    equal(found.subList(0, 2), List.of("a 1", "b 1"), "what came in mode " + mode);
                } else {
                    Suite.until(() -> found.size() == 6, "both have come three times");
                    equal(found, List.of("a 1", "a 2", "a 3", "b 1", "b 2", "b 3"), "what came in mode " + mode);
                }
            }
        }
    }

    private interface Work {
        void on(Message message) throws Exception;
    }

    /** Collects texts with counts of deliveries, and does something with each message. */
    private static List<String> listen(MessageConsumer consumer, Work work) throws Exception {
        List<String> found = Collections.synchronizedList(new ArrayList<>());
        consumer.setMessageListener(message -> {
            try {
                found.add(text(message) + " " + deliveries(message));
                work.on(message);
            } catch (RuntimeException failure) {
                throw failure;
            } catch (Exception failure) {
                found.add(failure.toString());
            }
        });
        return found;
    }

    private static void failingClientListener() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("failing");
            MessageConsumer consumer = jms.consumer(queue);
            List<String> found = listen(consumer, message -> {
                if (text(message).equals("a")) {
                    throw new IllegalArgumentException("this is to fail");
                }
                message.acknowledge();
            });
            other.send(queue, "a", "b");
            Suite.until(() -> found.size() == 2, "both have come");
            jms.session.close();
            equal(found, List.of("a 1", "b 1"), "what came");
            nothing(other.consumer(queue));
        }
    }

    private static void hopelessListener() throws Exception {
        try (Jms jms = Jms.open(Session.AUTO_ACKNOWLEDGE, connection -> connection.getRedeliveryPolicy().setMaximumRedeliveries(2));
                Jms other = Jms.open()) {
            Queue queue = jms.queue("hopeless");
            String body = Jms.unique("hopeless");
            List<String> found = listen(jms.consumer(queue), message -> {
                if (text(message).equals(body)) {
                    throw new IllegalArgumentException("this is to fail");
                }
            });
            other.send(queue, body, "next");
            Suite.until(() -> found.size() == 4, "all attempts are made");
            equal(found, List.of(body + " 1", body + " 2", body + " 3", "next 1"), "what came");
            other.deadLetter(body);
        }
    }

    private static void noRedelivery() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> connection.getRedeliveryPolicy().setMaximumRedeliveries(0));
                Jms other = Jms.open()) {
            Queue queue = jms.queue("once");
            String body = Jms.unique("once");
            other.send(queue, body, "next");
            MessageConsumer consumer = jms.consumer(queue);
            came(consumer, body, 1);
            jms.session.rollback();
            came(consumer, "next", 1);
            jms.session.commit();
            other.deadLetter(body);
        }
    }

    private static void endless() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> connection.getRedeliveryPolicy().setMaximumRedeliveries(-1));
                Jms other = Jms.open()) {
            Queue queue = jms.queue("endless");
            other.send(queue, "x");
            MessageConsumer consumer = jms.consumer(queue);
            for (int delivery = 1; delivery <= 20; delivery++) {
                came(consumer, "x", delivery);
                jms.session.rollback();
            }
            came(consumer, "x", 21);
            jms.session.commit();
        }
    }

    private static void letter() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> connection.getRedeliveryPolicy().setMaximumRedeliveries(0));
                Jms other = Jms.open()) {
            Queue queue = jms.queue("letter");
            String body = Jms.unique("letter");
            Message sent = other.session.createTextMessage(body);
            sent.setStringProperty("colour", "red");
            sent.setJMSCorrelationID("c");
            other.send(queue, sent);
            MessageConsumer consumer = jms.consumer(queue);
            came(consumer, body, 1);
            jms.session.rollback();
            Message letter = other.deadLetter(body);
            equal(letter.getJMSDestination().toString(), "queue://ActiveMQ.DLQ", "where the letter is");
            equal(((org.apache.activemq.command.ActiveMQMessage) letter).getOriginalDestination(), queue, "where it was");
            equal(letter.getStringProperty("colour"), "red", "its property");
            equal(letter.getJMSCorrelationID(), "c", "its correlation id");
            equal(letter.getJMSMessageID(), sent.getJMSMessageID(), "its id");
        }
    }

    private static void cause() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> connection.getRedeliveryPolicy().setMaximumRedeliveries(0));
                Jms other = Jms.open()) {
            Queue queue = jms.queue("cause");
            String body = Jms.unique("cause");
            other.send(queue, body);
            came(jms.consumer(queue), body, 1);
            jms.session.rollback();
            String cause = other.deadLetter(body).getStringProperty("dlqDeliveryFailureCause");
            equal(cause != null && cause.contains("redelivery"), true, "whether the cause is told, which is " + cause);
        }
    }

    private static void expired() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("expired");
            String body = Jms.unique("expired");
            jakarta.jms.MessageProducer producer = jms.session.createProducer(queue);
            producer.setTimeToLive(100);
            producer.send(jms.session.createTextMessage(body));
            Thread.sleep(200);
            // ActiveMQ looks when somebody consumes, or every half a minute.
            nothing(jms.consumer(queue));
            Message letter = jms.deadLetter(body);
            String cause = letter.getStringProperty("dlqDeliveryFailureCause");
            equal(cause != null && cause.contains("Message Expired"), true, "whether the cause is told, which is " + cause);
            equal(letter.getJMSExpiration(), 0L, "when the letter expires");
            equal(letter.getLongProperty("originalExpiration") > 0, true, "whether it tells when the message did");
        }
    }

    private static void notPersistent() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> connection.getRedeliveryPolicy().setMaximumRedeliveries(0));
                Jms other = Jms.open()) {
            Queue queue = jms.queue("transient");
            jakarta.jms.MessageProducer producer = other.session.createProducer(queue);
            producer.setDeliveryMode(jakarta.jms.DeliveryMode.NON_PERSISTENT);
            String body = Jms.unique("transient");
            producer.send(other.session.createTextMessage(body));
            MessageConsumer consumer = jms.consumer(queue);
            came(consumer, body, 1);
            jms.session.rollback();
            nothing(consumer);
            producer.setDeliveryMode(jakarta.jms.DeliveryMode.PERSISTENT);
            producer.send(other.session.createTextMessage(body + " stays"));
            came(consumer, body + " stays", 1);
            jms.session.rollback();
            nothing(consumer);
            // Past all others, and the first would be among them.
            other.deadLetter(body + " stays", before -> equal(body.equals(before), false, "whether it is a dead letter"));
        }
    }

    private static void lasting() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> connection.getRedeliveryPolicy().setMaximumRedeliveries(0));
                Jms other = Jms.open()) {
            Queue queue = jms.queue("lasting");
            String body = Jms.unique("lasting");
            MessageConsumer consumer = jms.consumer(queue);
            jakarta.jms.MessageProducer producer = other.session.createProducer(queue);
            producer.setTimeToLive(1_000);
            producer.send(other.session.createTextMessage(body));
            came(consumer, body, 1);
            jms.session.rollback();
            equal(other.deadLetter(body).getJMSExpiration(), 0L, "when the letter expires");
        }
    }

    private static void backOff() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> {
            RedeliveryPolicy policy = connection.getRedeliveryPolicy();
            policy.setInitialRedeliveryDelay(100);
            policy.setRedeliveryDelay(100);
            policy.setUseExponentialBackOff(true);
            policy.setBackOffMultiplier(2);
        }); Jms other = Jms.open()) {
            Queue queue = jms.queue("back-off");
            other.send(queue, "x");
            MessageConsumer consumer = jms.consumer(queue);
            came(consumer, "x", 1);
            for (int delivery = 2; delivery <= 4; delivery++) {
                long start = System.nanoTime();
                jms.session.rollback();
                came(consumer, "x", delivery);
                long waited = (System.nanoTime() - start) / 1_000_000;
                long least = 100L << (delivery - 2);
                equal(waited >= least - 20, true, "whether " + least + " ms have passed, which were " + waited);
            }
            jms.session.commit();
        }
    }

    private static void ownPolicy() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue strict = jms.queue("strict");
            Queue lax = jms.queue("lax");
            RedeliveryPolicy once = new RedeliveryPolicy();
            once.setMaximumRedeliveries(0);
            jms.connection.getRedeliveryPolicyMap().put((org.apache.activemq.command.ActiveMQDestination) strict, once);
            String body = Jms.unique("own");
            other.send(strict, body);
            other.send(lax, "again");
            MessageConsumer fromStrict = jms.consumer(strict);
            MessageConsumer fromLax = jms.consumer(lax);
            came(fromStrict, body, 1);
            came(fromLax, "again", 1);
            jms.session.rollback();
            came(fromLax, "again", 2);
            nothing(fromStrict);
            jms.session.commit();
            other.deadLetter(body);
        }
    }

    private static void overtaken() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED, connection -> {
            connection.setNonBlockingRedelivery(true);
            connection.getRedeliveryPolicy().setInitialRedeliveryDelay(500);
        }); Jms other = Jms.open()) {
            Queue queue = jms.queue("overtaken");
            other.send(queue, "a", "b");
            MessageConsumer consumer = jms.consumer(queue);
            came(consumer, "a", 1);
            jms.session.rollback();
            came(consumer, "b", 1);
            jms.session.commit();
            came(consumer, "a", 2);
            jms.session.commit();
            nothing(consumer);
        }
    }

    private static void individualRecovery() throws Exception {
        try (Jms jms = Jms.open(ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("individual");
            jms.send(queue, "a", "b", "c");
            MessageConsumer consumer = jms.consumer(queue);
            consumer.receive(PATIENCE);
            consumer.receive(PATIENCE).acknowledge();
            consumer.receive(PATIENCE);
            jms.session.recover();
            came(consumer, "a", 2);
            came(consumer, "c", 2);
            jms.session.close();
            MessageConsumer rest = other.consumer(queue);
            // What the client gives again out of its own memory, the broker does not count.
            came(rest, "a", 2);
            came(rest, "c", 2);
            nothing(rest);
        }
    }

    private static void wholeSession() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue first = jms.queue("first");
            Queue second = jms.queue("second");
            jms.send(first, "a", "b");
            jms.send(second, "c", "d");
            MessageConsumer fromFirst = jms.consumer(first);
            MessageConsumer fromSecond = jms.consumer(second);
            equal(text(fromFirst), "a", "what came");
            Message message = fromSecond.receive(PATIENCE);
            message.acknowledge();
            jms.session.close();
            expect(other.consumer(first), "b");
            expect(other.consumer(second), "d");
        }
    }

    private static void inListener() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("in-listener");
            List<String> found = listen(jms.consumer(queue), message -> {
                if (text(message).equals("m9")) {
                    message.acknowledge();
                }
            });
            other.send(queue, numbered(12));
            Suite.until(() -> found.size() == 12, "all have come");
            jms.session.close();
            MessageConsumer rest = other.consumer(queue);
            expect(rest, "m10", "m11");
            nothing(rest);
        }
    }

    private static void lazyEnd() throws Exception {
        try (Jms jms = Jms.open(Session.DUPS_OK_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("lazy");
            other.send(queue, "a", "b", "c");
            expect(jms.consumer(queue), "a", "b");
            jms.session.close();
            MessageConsumer rest = other.consumer(queue);
            expect(rest, "c");
            nothing(rest);
        }
    }

    private static void scheduled() throws Exception {
        String options = "?jms.optimizeAcknowledge=true&jms.optimizedAckScheduledAckInterval=100";
        try (Jms jms = Jms.open(options, Session.AUTO_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("scheduled");
            // More than the window: those behind it come once the first are acknowledged, which only the time makes happen.
            Queue narrow = jms.queue(queue, "consumer.prefetchSize=10");
            other.send(queue, numbered(25));
            expect(jms.consumer(narrow), numbered(25));
        }
    }

    private static void optimizedDurable() throws Exception {
        String client = Jms.unique("client");
        Jms.Setting optimized = connection -> {
            connection.setClientID(client);
            connection.setOptimizeAcknowledge(true);
        };
        try (Jms sender = Jms.open()) {
            jakarta.jms.Topic topic = sender.topic("optimized");
            try (Jms jms = Jms.open(Session.AUTO_ACKNOWLEDGE, optimized)) {
                MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
                sender.send(topic, numbered(30));
                expect(consumer, numbered(30));
                consumer.close();
            }
            try (Jms jms = Jms.open(Session.AUTO_ACKNOWLEDGE, optimized)) {
                MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
                nothing(consumer);
                consumer.close();
                jms.session.unsubscribe("sub");
            }
        }
    }
}
