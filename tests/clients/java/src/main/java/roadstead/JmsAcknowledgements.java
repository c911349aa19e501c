package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.nothing;
import static roadstead.Jms.numbered;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.Suite.equal;

import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.ArrayList;
import java.util.List;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQSession;

/** Acknowledging, transactions, redelivery, windows. */
final class JmsAcknowledgements {
    private JmsAcknowledgements() {}

    static void addTo(Suite suite) {
        suite.add("what-is-not-acknowledged-comes-again", session -> unacknowledged());
        suite.add("acknowledging-up-to-a-message", session -> clientMode());
        suite.add("acknowledging-one-by-one", session -> individually());
        suite.add("duplicates-may-be-acknowledged-late", session -> lazily());
        suite.add("recovering-a-session", session -> recovered());
        suite.add("a-window-smaller-than-what-is-read", session -> smallWindow());
        suite.add("a-transaction-larger-than-the-window", session -> largeTransaction());
        suite.add("committed-together", session -> committed());
        suite.add("rolled-back-together", session -> rolledBack());
        suite.add("what-nobody-can-digest-is-a-dead-letter", session -> poison());
        suite.add("pulling", session -> pulling());
        suite.add("consumers-in-turn", session -> turns());
        suite.add("consumer-priority", session -> priority());
        suite.add("optimized-acknowledgements", session -> optimized());
        suite.add("a-thousand-listeners-messages", session -> listener());
    }

    private static void unacknowledged() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("unacknowledged");
            jms.send(queue, "a", "b", "c");
            try (Jms other = Jms.open(Session.CLIENT_ACKNOWLEDGE)) {
                MessageConsumer consumer = other.consumer(queue);
                equal(texts(consumer, 2), List.of("a", "b"), "what came first");
            }
            MessageConsumer consumer = jms.consumer(queue);
            Message message = consumer.receive(PATIENCE);
            equal(text(message), "a", "what comes again");
            equal(message.getJMSRedelivered(), true, "whether it came before");
            equal(texts(consumer, 2), List.of("b", "c"), "what follows");
        }
    }

    private static void clientMode() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("client");
            jms.send(queue, "a", "b", "c");
            MessageConsumer consumer = jms.consumer(queue);
            consumer.receive(PATIENCE);
            consumer.receive(PATIENCE).acknowledge();
            consumer.close();
            equal(text(other.consumer(queue)), "c", "what is left");
        }
    }

    private static void individually() throws Exception {
        try (Jms jms = Jms.open(ActiveMQSession.INDIVIDUAL_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("individual");
            jms.send(queue, "a", "b", "c");
            MessageConsumer consumer = jms.consumer(queue);
            consumer.receive(PATIENCE);
            consumer.receive(PATIENCE).acknowledge();
            consumer.close();
            equal(texts(other.consumer(queue), 2), List.of("a", "c"), "what is left");
        }
    }

    private static void lazily() throws Exception {
        try (Jms jms = Jms.open(Session.DUPS_OK_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("lazy");
            jms.send(queue, numbered(1200));
            MessageConsumer consumer = jms.consumer(queue);
            equal(texts(consumer, 1200), List.of(numbered(1200)), "what came");
            consumer.close();
            nothing(other.consumer(queue));
        }
    }

    private static void recovered() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE)) {
            Queue queue = jms.queue("recover");
            jms.send(queue, "a", "b");
            MessageConsumer consumer = jms.consumer(queue);
            equal(texts(consumer, 2), List.of("a", "b"), "what came");
            jms.session.recover();
            Message message = consumer.receive(PATIENCE);
            equal(text(message), "a", "what comes again");
            equal(message.getJMSRedelivered(), true, "whether it came before");
            consumer.receive(PATIENCE).acknowledge();
            consumer.close();
            nothing(jms.consumer(queue));
        }
    }

    private static void smallWindow() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE)) {
            String name = Jms.unique("window");
            jms.send(jms.session.createQueue(name), numbered(100));
            MessageConsumer consumer = jms.consumer(jms.session.createQueue(name + "?consumer.prefetchSize=5"));
            equal(texts(consumer, 100), List.of(numbered(100)), "what came");
        }
    }

    private static void largeTransaction() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            String name = Jms.unique("window");
            other.send(other.session.createQueue(name), numbered(100));
            MessageConsumer consumer = jms.consumer(jms.session.createQueue(name + "?consumer.prefetchSize=5"));
            equal(texts(consumer, 100), List.of(numbered(100)), "what came");
            jms.session.commit();
            consumer.close();
            nothing(other.consumer(other.session.createQueue(name)));
        }
    }

    private static void committed() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            other.send(from, "in");
            MessageConsumer result = other.consumer(to);
            equal(text(jms.consumer(from)), "in", "what came");
            jms.send(to, "out 1", "out 2");
            nothing(result);
            jms.session.commit();
            equal(texts(result, 2), List.of("out 1", "out 2"), "what was committed");
            nothing(other.consumer(from));
        }
    }

    private static void rolledBack() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            other.send(from, "in");
            MessageConsumer result = other.consumer(to);
            MessageConsumer consumer = jms.consumer(from);
            equal(text(consumer), "in", "what came");
            jms.send(to, "out");
            jms.session.rollback();
            Message again = consumer.receive(PATIENCE);
            equal(text(again), "in", "what comes again");
            equal(again.getJMSRedelivered(), true, "whether it came before");
            nothing(result);
            jms.session.rollback();
            consumer.close();
            equal(text(other.consumer(from)), "in", "what is there for others");
        }
    }

    private static void poison() throws Exception {
        ActiveMQConnection connection = (ActiveMQConnection) Jms.factory("").createConnection();
        connection.getRedeliveryPolicy().setMaximumRedeliveries(2);
        connection.start();
        try (Jms jms = new Jms(connection, Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("poison");
            MessageConsumer letters = other.consumer(other.session.createQueue("ActiveMQ.DLQ"));
            String body = Jms.unique("poison");
            other.send(queue, body);
            MessageConsumer consumer = jms.consumer(queue);
            for (int attempt = 0; attempt < 3; attempt++) {
                equal(text(consumer), body, "attempt " + attempt);
                jms.session.rollback();
            }
            nothing(consumer);
            String letter = text(letters);
            while (letter != null && !letter.equals(body)) {
                letter = text(letters);
            }
            equal(letter, body, "the dead letter");
        }
    }

    private static void pulling() throws Exception {
        try (Jms jms = Jms.open()) {
            String name = Jms.unique("pull");
            Queue queue = jms.session.createQueue(name);
            MessageConsumer consumer = jms.consumer(jms.session.createQueue(name + "?consumer.prefetchSize=0"));
            nothing(consumer);
            equal(consumer.receiveNoWait(), null, "what is there");
            jms.send(queue, "a", "b");
            equal(text(consumer), "a", "the first");
            // What was not asked for is there for others.
            equal(text(jms.consumer(queue)), "b", "the second");
            nothing(consumer);
        }
    }

    private static void turns() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("turns");
            MessageConsumer first = jms.consumer(queue);
            MessageConsumer second = jms.consumer(queue);
            jms.send(queue, numbered(10));
            equal(texts(first, 5).size() + texts(second, 5).size(), 10, "how many came");
            nothing(first);
            nothing(second);
        }
    }

    private static void priority() throws Exception {
        try (Jms jms = Jms.open()) {
            String name = Jms.unique("priority");
            MessageConsumer low = jms.consumer(jms.session.createQueue(name));
            MessageConsumer high = jms.consumer(jms.session.createQueue(name + "?consumer.priority=10"));
            jms.send(jms.session.createQueue(name), "a", "b", "c");
            equal(texts(high, 3), List.of("a", "b", "c"), "what the first got");
            nothing(low);
        }
    }

    private static void optimized() throws Exception {
        try (Jms jms = Jms.open("?jms.optimizeAcknowledge=true", Session.AUTO_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("optimized");
            other.send(queue, numbered(500));
            MessageConsumer consumer = jms.consumer(queue);
            equal(texts(consumer, 500), List.of(numbered(500)), "what came");
            consumer.close();
            nothing(other.consumer(queue));
        }
    }

    private static void listener() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("listener");
            List<String> found = java.util.Collections.synchronizedList(new ArrayList<>());
            jms.consumer(queue).setMessageListener(message -> {
                try {
                    found.add(text(message));
                } catch (jakarta.jms.JMSException failure) {
                    found.add(failure.toString());
                }
            });
            other.send(queue, numbered(1000));
            Suite.until(() -> found.size() == 1000, "all messages have come");
            equal(found, List.of(numbered(1000)), "what came");
        }
    }
}
