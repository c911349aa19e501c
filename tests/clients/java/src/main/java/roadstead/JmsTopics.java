package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.nothing;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.Suite.equal;

import jakarta.jms.InvalidSelectorException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Topic;
import java.util.List;

/** Topics: patterns, selectors, durable subscriptions, virtual topics. */
final class JmsTopics {
    private JmsTopics() {}

    static void addTo(Suite suite) {
        suite.add("topic-to-many", session -> many());
        suite.add("topic-patterns", session -> patterns());
        suite.add("topic-selectors", session -> selectors());
        suite.add("bad-selectors-are-refused", session -> badSelector());
        suite.add("no-local", session -> noLocal());
        suite.add("durable-subscription", session -> durable());
        suite.add("durable-subscription-with-a-selector", session -> durableSelector());
        suite.add("durable-subscription-changes", session -> changed());
        suite.add("durable-subscription-is-for-one-at-a-time", session -> inUse());
        suite.add("virtual-topic", session -> virtual());
        suite.add("temporary-topic", session -> temporary());
    }

    private static void many() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Topic topic = jms.topic("many");
            List<MessageConsumer> consumers = List.of(jms.consumer(topic), jms.consumer(topic), other.consumer(topic));
            jms.send(topic, "a", "b");
            for (MessageConsumer consumer : consumers) {
                equal(texts(consumer, 2), List.of("a", "b"), "what came");
                nothing(consumer);
            }
        }
    }

    private static void patterns() throws Exception {
        try (Jms jms = Jms.open()) {
            String base = Jms.unique("pattern");
            MessageConsumer one = jms.consumer(jms.session.createTopic(base + ".*"));
            MessageConsumer rest = jms.consumer(jms.session.createTopic(base + ".>"));
            MessageConsumer middle = jms.consumer(jms.session.createTopic(base + ".*.c"));
            jms.send(jms.session.createTopic(base + ".a"), "a");
            jms.send(jms.session.createTopic(base + ".b.c"), "b.c");
            equal(text(one), "a", "one word");
            nothing(one);
            equal(texts(rest, 2), List.of("a", "b.c"), "all words");
            Message message = middle.receive(PATIENCE);
            equal(text(message), "b.c", "one word in the middle");
            equal(message.getJMSDestination().toString(), "topic://" + base + ".b.c", "where it was sent to");
        }
    }

    private static void selectors() throws Exception {
        try (Jms jms = Jms.open()) {
            Topic topic = jms.topic("selector");
            MessageConsumer selective = jms.session.createConsumer(topic, "n > 2 AND colour = 'red'");
            MessageProducer producer = jms.session.createProducer(topic);
            for (int i = 0; i < 6; i++) {
                Message message = jms.session.createTextMessage("m" + i);
                message.setIntProperty("n", i);
                message.setStringProperty("colour", i % 2 == 1 ? "red" : "blue");
                producer.send(message);
            }
            equal(texts(selective, 2), List.of("m3", "m5"), "what came");
            nothing(selective);
        }
    }

    private static void badSelector() throws Exception {
        try (Jms jms = Jms.open()) {
            try {
                jms.session.createConsumer(jms.topic("bad"), "a b c");
                throw new AssertionError("a bad selector was taken");
            } catch (InvalidSelectorException expected) {
                // The connection goes on.
                Topic topic = jms.topic("good");
                MessageConsumer consumer = jms.consumer(topic);
                jms.send(topic, "x");
                equal(text(consumer), "x", "what came");
            }
        }
    }

    private static void noLocal() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Topic topic = jms.topic("no-local");
            MessageConsumer consumer = jms.session.createConsumer(topic, null, true);
            jms.send(topic, "own");
            other.send(topic, "other");
            equal(text(consumer), "other", "what came");
            nothing(consumer);
        }
    }

    private static void durable() throws Exception {
        String client = Jms.unique("client");
        try (Jms sender = Jms.open()) {
            Topic topic = sender.topic("durable");
            try (Jms jms = Jms.named(client)) {
                jms.session.createDurableSubscriber(topic, "sub").close();
            }
            sender.send(topic, "a", "b");
            try (Jms jms = Jms.named(client)) {
                MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
                equal(texts(consumer, 2), List.of("a", "b"), "what came meanwhile");
                consumer.close();
                jms.session.unsubscribe("sub");
            }
            sender.send(topic, "c");
            try (Jms jms = Jms.named(client)) {
                MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
                nothing(consumer);
                consumer.close();
                jms.session.unsubscribe("sub");
            }
        }
    }

    private static void durableSelector() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("durable");
            jms.session.createDurableSubscriber(topic, "sub", "n = 1", false).close();
            for (int i = 0; i < 3; i++) {
                Message message = jms.session.createTextMessage("m" + i);
                message.setIntProperty("n", i);
                jms.send(topic, message);
            }
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub", "n = 1", false);
            equal(text(consumer), "m1", "what came");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void changed() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic first = jms.topic("first");
            Topic second = jms.topic("second");
            jms.session.createDurableSubscriber(first, "sub").close();
            jms.send(first, "old");
            MessageConsumer consumer = jms.session.createDurableSubscriber(second, "sub");
            jms.send(second, "new");
            equal(text(consumer), "new", "what came of the other topic");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void inUse() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("durable");
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            refused(() -> jms.connection.createSession(false, 1).createDurableSubscriber(topic, "sub"), "in use");
            refused(() -> jms.session.unsubscribe("sub"), "in use");
            consumer.close();
            jms.session.unsubscribe("sub");
            refused(() -> jms.session.unsubscribe("sub"), "No durable subscription");
        }
    }

    interface Attempt {
        void make() throws Exception;
    }

    static void refused(Attempt attempt, String why) throws Exception {
        try {
            attempt.make();
        } catch (jakarta.jms.JMSException refusal) {
            equal(String.valueOf(refusal.getMessage()).contains(why), true, "whether '" + refusal.getMessage() + "' says " + why);
            return;
        }
        throw new AssertionError("this was not refused");
    }

    private static void virtual() throws Exception {
        try (Jms jms = Jms.open()) {
            String name = Jms.unique("VirtualTopic").replace("roadstead.", "VirtualTopic.");
            MessageConsumer first = jms.consumer(jms.session.createQueue("Consumer.A." + name));
            MessageConsumer second = jms.consumer(jms.session.createQueue("Consumer.B." + name));
            MessageConsumer shared = jms.consumer(jms.session.createQueue("Consumer.B." + name));
            jms.send(jms.session.createTopic(name), "x", "y");
            equal(texts(first, 2), List.of("x", "y"), "what A got");
            String one = text(second);
            String other = text(shared);
            equal(List.of(one, other).stream().sorted().toList(), List.of("x", "y"), "what B got together");
        }
    }

    private static void temporary() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Topic topic = jms.session.createTemporaryTopic();
            MessageConsumer consumer = jms.consumer(topic);
            other.sendOnceKnown(topic, "x");
            equal(text(consumer), "x", "what came");
        }
    }
}
