package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.numbered;
import static roadstead.Jms.text;
import static roadstead.Suite.equal;

import jakarta.jms.DeliveryMode;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Session;
import jakarta.jms.Topic;

/** Durable subscriptions, which wait for their client. */
final class JmsDurables {
    private JmsDurables() {}

    static void addTo(Suite suite) {
        suite.add("a-durable-subscription-begins-when-it-is-made", session -> begins());
        suite.add("several-durable-subscriptions-of-one-client", session -> several());
        suite.add("clients-may-call-their-subscriptions-the-same", session -> clients());
        suite.add("a-durable-subscription-of-a-pattern", session -> pattern());
        suite.add("a-durable-subscription-of-several-topics", session -> ofSeveral());
        suite.add("a-durable-subscription-without-its-own-messages", session -> noLocal());
        suite.add("another-selector-is-another-subscription", session -> otherSelector());
        suite.add("what-a-durable-subscriber-did-not-acknowledge-comes-again", session -> unacknowledged());
        suite.add("a-durable-subscription-keeps-a-thousand-messages", session -> thousand());
        suite.add("a-durable-subscription-keeps-non-persistent-messages", session -> nonPersistent());
        suite.add("messages-expire-in-a-durable-subscription", session -> expires());
        suite.add("a-durable-subscription-ends-with-unsubscribe-alone", session -> ends());
        suite.add("a-durable-subscription-with-a-small-window", session -> window());
        suite.add("a-durable-subscription-beside-others", session -> beside());
    }

    private static void begins() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("begins");
            jms.send(topic, "before");
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            jms.send(topic, "after");
            expect(consumer, "after");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void several() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("several");
            jms.session.createDurableSubscriber(topic, "first").close();
            jms.session.createDurableSubscriber(topic, "second").close();
            jms.send(topic, "a", "b");
            for (String name : new String[] {"first", "second"}) {
                MessageConsumer consumer = jms.session.createDurableSubscriber(topic, name);
                expect(consumer, "a", "b");
                nothing(consumer);
                consumer.close();
                jms.session.unsubscribe(name);
            }
        }
    }

    private static void clients() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client")); Jms other = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("clients");
            MessageConsumer first = jms.session.createDurableSubscriber(topic, "sub");
            MessageConsumer second = other.session.createDurableSubscriber(topic, "sub");
            jms.send(topic, "x");
            expect(first, "x");
            expect(second, "x");
            first.close();
            jms.session.unsubscribe("sub");
            jms.send(topic, "y");
            expect(second, "y");
            second.close();
            other.session.unsubscribe("sub");
        }
    }

    private static void pattern() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            String base = Jms.unique("pattern");
            Topic all = jms.session.createTopic(base + ".>");
            jms.session.createDurableSubscriber(all, "sub").close();
            jms.send(jms.session.createTopic(base + ".a"), "a");
            jms.send(jms.session.createTopic(base + ".b.c"), "b.c");
            MessageConsumer consumer = jms.session.createDurableSubscriber(all, "sub");
            expect(consumer, "a");
            Message message = consumer.receive(PATIENCE);
            equal(text(message), "b.c", "what came");
            equal(message.getJMSDestination().toString(), "topic://" + base + ".b.c", "where it was sent to");
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void ofSeveral() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic one = jms.topic("one");
            Topic two = jms.topic("two");
            Topic both = jms.session.createTopic(one.getTopicName() + "," + two.getTopicName());
            jms.session.createDurableSubscriber(both, "sub").close();
            jms.send(one, "a");
            jms.send(two, "b");
            jms.send(jms.topic("three"), "c");
            MessageConsumer consumer = jms.session.createDurableSubscriber(both, "sub");
            expect(consumer, "a", "b");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void noLocal() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client")); Jms other = Jms.open()) {
            Topic topic = jms.topic("no-local");
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub", null, true);
            jms.send(topic, "own");
            other.send(topic, "other");
            expect(consumer, "other");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void otherSelector() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("selector");
            jms.session.createDurableSubscriber(topic, "sub", "n = 1", false).close();
            send(jms, topic, 1, "for the old one");
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub", "n = 2", false);
            send(jms, topic, 1, "not wanted");
            send(jms, topic, 2, "for the new one");
            expect(consumer, "for the new one");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void send(Jms jms, Topic topic, int n, String text) throws Exception {
        Message message = jms.session.createTextMessage(text);
        message.setIntProperty("n", n);
        jms.send(topic, message);
    }

    private static void unacknowledged() throws Exception {
        String client = Jms.unique("client");
        Topic topic;
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE, connection -> connection.setClientID(client))) {
            topic = jms.topic("unacknowledged");
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            jms.send(topic, "a", "b", "c");
            consumer.receive(PATIENCE).acknowledge();
            expect(consumer, "b");
        }
        try (Jms jms = Jms.named(client)) {
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            Message again = consumer.receive(PATIENCE);
            equal(text(again), "b", "what comes again");
            equal(again.getJMSRedelivered(), true, "whether it came before");
            expect(consumer, "c");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void thousand() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client")); Jms sender = Jms.open("?jms.useAsyncSend=true", Session.AUTO_ACKNOWLEDGE)) {
            Topic topic = jms.topic("thousand");
            jms.session.createDurableSubscriber(topic, "sub").close();
            sender.send(topic, numbered(1000));
            // All are there once the last is; sends of one connection keep their order.
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            expect(consumer, numbered(1000));
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void nonPersistent() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("non-persistent");
            jms.session.createDurableSubscriber(topic, "sub").close();
            MessageProducer producer = jms.session.createProducer(topic);
            producer.send(jms.session.createTextMessage("x"), DeliveryMode.NON_PERSISTENT, 4, 0);
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            expect(consumer, "x");
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void expires() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("expires");
            jms.session.createDurableSubscriber(topic, "sub").close();
            MessageProducer producer = jms.session.createProducer(topic);
            producer.send(jms.session.createTextMessage("short"), DeliveryMode.PERSISTENT, 4, 50);
            producer.send(jms.session.createTextMessage("long"), DeliveryMode.PERSISTENT, 4, 60_000);
            Thread.sleep(150);
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            expect(consumer, "long");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void ends() throws Exception {
        String client = Jms.unique("client");
        Topic topic = null;
        for (int i = 0; i < 3; i++) {
            try (Jms jms = Jms.named(client)) {
                topic = topic == null ? jms.topic("ends") : topic;
                MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
                if (i > 0) {
                    expect(consumer, "after connection " + (i - 1));
                }
                consumer.close();
                jms.send(topic, "after connection " + i);
            }
        }
        try (Jms jms = Jms.named(client)) {
            jms.session.unsubscribe("sub");
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void window() throws Exception {
        String client = Jms.unique("client");
        try (Jms jms = Jms.open(Session.CLIENT_ACKNOWLEDGE, connection -> {
            connection.setClientID(client);
            connection.getPrefetchPolicy().setDurableTopicPrefetch(3);
        })) {
            Topic topic = jms.topic("window");
            jms.session.createDurableSubscriber(topic, "sub").close();
            jms.send(topic, numbered(50));
            MessageConsumer consumer = jms.session.createDurableSubscriber(topic, "sub");
            expect(consumer, numbered(49));
            consumer.receive(PATIENCE).acknowledge();
            consumer.close();
            consumer = jms.session.createDurableSubscriber(topic, "sub");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void beside() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("beside");
            jms.session.createDurableSubscriber(topic, "sub").close();
            MessageConsumer plain = jms.consumer(topic);
            jms.send(topic, "x");
            expect(plain, "x");
            MessageConsumer durable = jms.session.createDurableSubscriber(topic, "sub");
            expect(durable, "x");
            jms.send(topic, "y");
            expect(plain, "y");
            expect(durable, "y");
            durable.close();
            jms.session.unsubscribe("sub");
        }
    }
}
