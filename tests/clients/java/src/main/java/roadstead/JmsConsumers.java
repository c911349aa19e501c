package roadstead;

import static roadstead.Jms.MOMENT;
import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.numbered;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.JmsTopics.refused;
import static roadstead.Suite.equal;

import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Consumers: windows, listeners, many of them, starting and stopping, closing. */
final class JmsConsumers {
    private JmsConsumers() {}

    static void addTo(Suite suite) {
        suite.add("a-window-leaves-the-rest-to-others", session -> window());
        suite.add("windows-of-one-share-evenly", session -> windowsOfOne());
        suite.add("a-window-for-all-consumers-of-a-connection", session -> connectionWindow());
        suite.add("a-full-consumer-of-priority-leaves-the-rest", session -> fullPriority());
        suite.add("pulling-what-is-there", session -> pullNow());
        suite.add("pulling-waits-for-a-message", session -> pullWaits());
        suite.add("pulling-in-a-transaction", session -> pullTransacted());
        suite.add("closing-ends-a-pull", session -> pullClosed());
        suite.add("closing-ends-receiving", session -> closeWhileReceiving());
        suite.add("closing-the-connection-ends-receiving", session -> disconnectWhileReceiving());
        suite.add("nothing-comes-before-the-start", session -> start());
        suite.add("nothing-comes-while-stopped", session -> stopped());
        suite.add("a-listener-for-what-came-before", session -> lateListener());
        suite.add("from-listening-to-receiving", session -> fromListening());
        suite.add("two-listeners-share-a-queue", session -> shared());
        suite.add("two-hundred-consumers-in-one-session", session -> manyConsumers());
        suite.add("a-hundred-sessions-on-one-connection", session -> manySessions());
        suite.add("fifty-connections", session -> manyConnections());
        suite.add("consumers-that-come-and-go", session -> comeAndGo());
        suite.add("a-queue-in-use-is-not-removed", session -> inUse());
        suite.add("a-removed-queue-is-empty-when-it-comes-again", session -> removed());
        suite.add("a-pattern-of-queues", session -> pattern());
        suite.add("a-pattern-of-queues-that-are-made-later", session -> laterPattern());
        suite.add("a-consumer-of-queues-and-topics", session -> mixed());
        suite.add("a-consumer-of-many-queues-with-a-small-window", session -> manyQueues());
        suite.add("options-of-consumers-in-the-name", session -> options());
        suite.add("a-deep-queue-comes-in-order", session -> deep());
    }

    private static void window() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("window");
            other.send(queue, numbered(10));
            MessageConsumer narrow = jms.consumer(jms.queue(queue, "consumer.prefetchSize=3"));
            expect(narrow, "m0");
            MessageConsumer rest = other.consumer(queue);
            equal(texts(rest, 7), List.of(numbered(10)).subList(3, 10), "what is left");
            nothing(rest);
            narrow.close();
            expect(rest, "m0", "m1", "m2");
        }
    }

    private static void windowsOfOne() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("one");
            MessageConsumer first = jms.consumer(jms.queue(queue, "consumer.prefetchSize=1"));
            MessageConsumer second = jms.consumer(jms.queue(queue, "consumer.prefetchSize=1"));
            jms.send(queue, numbered(3));
            List<String> found = new ArrayList<>(List.of(text(first), text(second)));
            Message third = first.receive(MOMENT);
            found.add(text(third == null ? second.receive(PATIENCE) : third));
            Collections.sort(found);
            equal(found, List.of(numbered(3)), "what came");
        }
    }

    private static void connectionWindow() throws Exception {
        try (Jms jms = Jms.open("?jms.prefetchPolicy.queuePrefetch=3", Session.CLIENT_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("connection");
            other.send(queue, numbered(5));
            // Of three, the client does not yet say that one has arrived.
            expect(jms.consumer(queue), "m0");
            MessageConsumer rest = other.consumer(queue);
            expect(rest, "m3", "m4");
            nothing(rest);
            jms.session.close();
            expect(rest, "m0", "m1", "m2");
        }
    }

    private static void fullPriority() throws Exception {
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms other = Jms.open()) {
            Queue queue = jms.queue("priority");
            MessageConsumer high = jms.consumer(jms.queue(queue, "consumer.priority=5&consumer.prefetchSize=2"));
            MessageConsumer low = other.consumer(queue);
            other.send(queue, numbered(5));
            expect(low, "m2", "m3", "m4");
            expect(high, "m0", "m1");
        }
    }

    private static void pullNow() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("pull");
            jms.send(queue, numbered(3));
            MessageConsumer consumer = jms.consumer(jms.queue(queue, "consumer.prefetchSize=0"));
            for (String expected : numbered(3)) {
                equal(text(consumer.receiveNoWait()), expected, "what is there");
            }
            equal(consumer.receiveNoWait(), null, "what is there at last");
        }
    }

    private static void pullWaits() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("pull");
            MessageConsumer consumer = jms.consumer(jms.queue(queue, "consumer.prefetchSize=0"));
            CompletableFuture<Message> received = receiving(consumer);
            other.send(queue, "a", "b");
            equal(text(received.get(PATIENCE, TimeUnit.MILLISECONDS)), "a", "what came");
            expect(other.consumer(queue), "b");
        }
    }

    /** Receives without end in another thread, which has begun. */
    private static CompletableFuture<Message> receiving(MessageConsumer consumer) throws Exception {
        Thread[] receiver = new Thread[1];
        CompletableFuture<Message> received = new CompletableFuture<>();
        receiver[0] = new Thread(() -> {
            try {
                received.complete(consumer.receive());
            } catch (JMSException failure) {
                received.completeExceptionally(failure);
            }
        });
        receiver[0].setDaemon(true);
        receiver[0].start();
        Suite.until(() -> receiver[0].getState() == Thread.State.WAITING, "the receiver waits");
        return received;
    }

    private static void pullTransacted() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("pull");
            other.send(queue, "a", "b", "c");
            MessageConsumer consumer = jms.consumer(jms.queue(queue, "consumer.prefetchSize=0"));
            expect(consumer, "a", "b");
            jms.session.rollback();
            expect(consumer, "a", "b");
            jms.session.commit();
            expect(consumer, "c");
            jms.session.commit();
            nothing(consumer);
        }
    }

    private static void pullClosed() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("pull");
            MessageConsumer consumer = jms.consumer(jms.queue(queue, "consumer.prefetchSize=0"));
            CompletableFuture<Message> received = receiving(consumer);
            consumer.close();
            equal(received.get(PATIENCE, TimeUnit.MILLISECONDS), null, "what came");
            jms.send(queue, "x");
            expect(jms.consumer(queue), "x");
        }
    }

    private static void closeWhileReceiving() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("close");
            MessageConsumer consumer = jms.consumer(queue);
            CompletableFuture<Message> received = receiving(consumer);
            consumer.close();
            equal(received.get(PATIENCE, TimeUnit.MILLISECONDS), null, "what came");
        }
    }

    private static void disconnectWhileReceiving() throws Exception {
        CompletableFuture<Message> received;
        try (Jms jms = Jms.open()) {
            received = receiving(jms.consumer(jms.queue("close")));
        }
        equal(received.get(PATIENCE, TimeUnit.MILLISECONDS), null, "what came");
    }

    private static void start() throws Exception {
        jakarta.jms.Connection connection = Jms.factory("").createConnection();
        try (Jms jms = new Jms(connection, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("start");
            MessageConsumer consumer = jms.consumer(queue);
            jms.send(queue, "x");
            nothing(consumer);
            connection.start();
            expect(consumer, "x");
        }
    }

    private static void stopped() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("stopped");
            MessageConsumer consumer = jms.consumer(queue);
            jms.connection.stop();
            jms.send(queue, "a", "b");
            nothing(consumer);
            jms.connection.start();
            expect(consumer, "a", "b");
        }
    }

    private static List<String> listen(MessageConsumer consumer) throws Exception {
        List<String> found = Collections.synchronizedList(new ArrayList<>());
        consumer.setMessageListener(message -> {
            try {
                found.add(text(message));
            } catch (JMSException failure) {
                found.add(failure.toString());
            }
        });
        return found;
    }

    private static void lateListener() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("late");
            jms.send(queue, numbered(5));
            MessageConsumer consumer = jms.consumer(queue);
            expect(consumer, "m0");
            List<String> found = listen(consumer);
            Suite.until(() -> found.size() == 4, "the rest has come");
            equal(found, List.of("m1", "m2", "m3", "m4"), "what came");
        }
    }

    private static void fromListening() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("listening");
            MessageConsumer consumer = jms.consumer(queue);
            List<String> found = listen(consumer);
            other.send(queue, "a");
            Suite.until(() -> found.size() == 1, "the listener has it");
            consumer.setMessageListener(null);
            other.send(queue, "b");
            expect(consumer, "b");
            equal(found, List.of("a"), "what the listener got");
        }
    }

    private static void shared() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("shared");
            List<String> first = listen(jms.consumer(jms.queue(queue, "consumer.prefetchSize=10")));
            List<String> second = listen(other.consumer(jms.queue(queue, "consumer.prefetchSize=10")));
            try (Jms sender = Jms.open("?jms.useAsyncSend=true", Session.AUTO_ACKNOWLEDGE)) {
                sender.send(queue, numbered(1000));
            }
            Suite.until(() -> first.size() + second.size() == 1000, "all have come");
            List<String> found = new ArrayList<>(first);
            found.addAll(second);
            Collections.sort(found);
            List<String> expected = new ArrayList<>(List.of(numbered(1000)));
            Collections.sort(expected);
            equal(found, expected, "what came");
            equal(first.isEmpty() || second.isEmpty(), false, "whether one had everything");
        }
    }

    private static void manyConsumers() throws Exception {
        try (Jms jms = Jms.open()) {
            List<Queue> queues = new ArrayList<>();
            List<MessageConsumer> consumers = new ArrayList<>();
            for (int i = 0; i < 200; i++) {
                queues.add(jms.queue("many"));
                consumers.add(jms.consumer(queues.get(i)));
            }
            MessageProducer producer = jms.session.createProducer(null);
            for (int i = 0; i < 200; i++) {
                producer.send(queues.get(i), jms.session.createTextMessage("for " + i));
            }
            for (int i = 0; i < 200; i++) {
                expect(consumers.get(i), "for " + i);
            }
        }
    }

    private static void manySessions() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("sessions");
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            List<Session> sessions = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                Session session = jms.session(Session.AUTO_ACKNOWLEDGE);
                sessions.add(session);
                session.createConsumer(queue).setMessageListener(message -> found.add(message.toString()));
            }
            jms.send(queue, numbered(300));
            Suite.until(() -> found.size() == 300, "all have come");
            for (Session session : sessions) {
                session.close();
            }
            nothing(jms.consumer(queue));
        }
    }

    private static void manyConnections() throws Exception {
        List<Jms> open = new ArrayList<>();
        try {
            for (int i = 0; i < 50; i++) {
                open.add(Jms.open());
            }
            Topic topic = open.get(0).topic("connections");
            List<MessageConsumer> consumers = new ArrayList<>();
            for (Jms jms : open) {
                consumers.add(jms.consumer(topic));
            }
            open.get(0).send(topic, "x");
            for (MessageConsumer consumer : consumers) {
                expect(consumer, "x");
            }
        } finally {
            for (Jms jms : open) {
                jms.close();
            }
        }
    }

    private static void comeAndGo() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("come");
            jms.send(queue, numbered(100));
            for (String expected : numbered(100)) {
                MessageConsumer consumer = jms.consumer(queue);
                equal(text(consumer), expected, "what came");
                consumer.close();
            }
            nothing(jms.consumer(queue));
        }
    }

    private static void inUse() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("used");
            MessageConsumer consumer = other.consumer(queue);
            refused(() -> jms.forget(queue), "active subscription");
            jms.send(queue, "x");
            expect(consumer, "x");
            consumer.close();
            // Its end is not answered.
            Suite.until(() -> {
                try {
                    jms.forget(queue);
                    return true;
                } catch (JMSException inUse) {
                    return false;
                }
            }, "the queue can be removed");
        }
    }

    private static void removed() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("removed");
            jms.send(queue, "old");
            jms.forget(queue);
            jms.send(queue, "new");
            MessageConsumer consumer = jms.consumer(queue);
            expect(consumer, "new");
            nothing(consumer);
        }
    }

    private static void laterPattern() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            String name = Jms.unique("pattern");
            MessageConsumer consumer = jms.consumer(jms.session.createQueue(name + ".>"));
            for (String last : new String[] {"a", "b.c", "d"}) {
                Queue queue = other.session.createQueue(name + "." + last);
                other.send(queue, last);
                Message message = consumer.receive(PATIENCE);
                equal(text(message), last, "what came");
                equal(message.getJMSDestination(), queue, "where it was");
            }
            nothing(consumer);
            consumer.close();
            for (String last : new String[] {"a", "b.c", "d"}) {
                jms.forget(jms.session.createQueue(name + "." + last));
            }
        }
    }

    private static void pattern() throws Exception {
        try (Jms jms = Jms.open()) {
            String base = jms.queue("pattern").getQueueName();
            for (String name : List.of("a.x", "b.x", "b.y")) {
                jms.send(jms.session.createQueue(base + "." + name), name);
            }
            MessageConsumer some = jms.consumer(jms.session.createQueue(base + ".*.x"));
            List<String> found = new ArrayList<>(texts(some, 2));
            Collections.sort(found);
            equal(found, List.of("a.x", "b.x"), "what came of some");
            nothing(some);
            some.close();
            MessageConsumer all = jms.consumer(jms.session.createQueue(base + ".>"));
            Message message = all.receive(PATIENCE);
            equal(text(message), "b.y", "what came of the rest");
            equal(message.getJMSDestination().toString(), "queue://" + base + ".b.y", "where it was sent to");
            all.close();
            for (String name : List.of("a.x", "b.x", "b.y")) {
                jms.forget(jms.session.createQueue(base + "." + name));
            }
        }
    }

    private static void mixed() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("mixed");
            Topic topic = jms.topic("mixed");
            MessageConsumer consumer =
                    jms.consumer(jms.session.createQueue("queue://" + queue.getQueueName() + ",topic://" + topic.getTopicName()));
            jms.send(queue, "to the queue");
            expect(consumer, "to the queue");
            jms.send(topic, "to the topic");
            Message message = consumer.receive(PATIENCE);
            equal(text(message), "to the topic", "what came");
            equal(message.getJMSDestination(), topic, "where it was sent to");
            nothing(consumer);
            consumer.close();
        }
    }

    private static void manyQueues() throws Exception {
        try (Jms jms = Jms.open()) {
            List<String> names = new ArrayList<>();
            for (int i = 0; i < 10; i++) {
                Queue queue = jms.queue("some");
                names.add(queue.getQueueName());
                jms.send(queue, numbered(10));
            }
            MessageConsumer consumer = jms.consumer(jms.session.createQueue(String.join(",", names) + "?consumer.prefetchSize=4"));
            List<String> found = new ArrayList<>(texts(consumer, 100));
            nothing(consumer);
            for (String each : numbered(10)) {
                equal(Collections.frequency(found, each), 10, "how often came " + each);
            }
            consumer.close();
        }
    }

    private static void options() throws Exception {
        try (Jms jms = Jms.open()) {
            Topic topic = jms.topic("options");
            String name = topic.getTopicName();
            String all = "?consumer.dispatchAsync=false&consumer.maximumPendingMessageLimit=100&consumer.retroactive=true&consumer.prefetchSize=5";
            MessageConsumer plain = jms.consumer(jms.session.createTopic(name + all));
            MessageConsumer others = jms.consumer(jms.session.createTopic(name + "?consumer.noLocal=true"));
            jms.send(topic, numbered(20));
            expect(plain, numbered(20));
            nothing(others);
        }
    }

    private static void deep() throws Exception {
        try (Jms jms = Jms.open("?jms.useAsyncSend=true", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("deep");
            jms.send(queue, numbered(5000));
            MessageConsumer consumer = jms.consumer(jms.queue(queue, "consumer.prefetchSize=100"));
            expect(consumer, numbered(5000));
            nothing(consumer);
        }
    }
}
