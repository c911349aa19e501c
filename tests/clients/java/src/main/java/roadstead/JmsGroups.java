package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.Suite.equal;

import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import java.util.List;

/** Message groups, and exclusive consumers. */
final class JmsGroups {
    private JmsGroups() {}

    static void addTo(Suite suite) {
        suite.add("a-group-stays-with-its-consumer", session -> together());
        suite.add("a-group-goes-on-with-another-consumer", session -> handedOver());
        suite.add("a-group-that-is-closed-begins-again", session -> closed());
        suite.add("the-first-of-a-group-is-marked", session -> first());
        suite.add("a-full-consumer-holds-up-only-its-groups", session -> full());
        suite.add("groups-in-a-transaction", session -> transacted());
        suite.add("an-exclusive-consumer-gets-everything", session -> exclusive());
        suite.add("an-exclusive-consumer-of-a-higher-priority", session -> outranked());
    }

    private static Message message(Jms jms, String text, String group, int sequence) throws Exception {
        Message message = jms.session.createTextMessage(text);
        message.setStringProperty("JMSXGroupID", group);
        message.setIntProperty("JMSXGroupSeq", sequence);
        return message;
    }

    private static void send(Jms jms, Queue queue, String group, int count) throws Exception {
        MessageProducer producer = jms.session.createProducer(queue);
        for (int i = 1; i <= count; i++) {
            producer.send(message(jms, group + i, group, i));
        }
        producer.close();
    }

    /** The consumer that gets the messages with these texts, which is one of two. */
    private static MessageConsumer owner(MessageConsumer one, MessageConsumer other, String... texts) throws Exception {
        Message first = one.receive(Jms.MOMENT);
        MessageConsumer owner = first == null ? other : one;
        equal(text(first == null ? other.receive(PATIENCE) : first), texts[0], "the first of the group");
        expect(owner, List.of(texts).subList(1, texts.length).toArray(String[]::new));
        return owner;
    }

    private static void together() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("groups");
            MessageConsumer one = jms.consumer(queue);
            MessageConsumer two = other.consumer(queue);
            send(jms, queue, "x", 10);
            MessageConsumer owner = owner(one, two, "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10");
            send(jms, queue, "y", 3);
            equal(owner(one, two, "y1", "y2", "y3") == owner, false, "whether one consumer has both groups");
            jms.send(queue, message(jms, "x11", "x", 11));
            expect(owner, "x11");
            nothing(one);
            nothing(two);
        }
    }

    private static void handedOver() throws Exception {
        try (Jms jms = Jms.open(); Jms one = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms two = Jms.open()) {
            Queue queue = jms.queue("groups");
            MessageConsumer first = one.consumer(queue);
            send(jms, queue, "x", 3);
            expect(first, "x1");
            MessageConsumer second = two.consumer(queue);
            nothing(second);
            one.connection.close();
            expect(second, "x1", "x2", "x3");
            jms.send(queue, message(jms, "x4", "x", 4));
            expect(second, "x4");
        }
    }

    private static void closed() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("groups");
            MessageConsumer one = jms.consumer(queue);
            MessageConsumer two = other.consumer(queue);
            jms.send(queue, message(jms, "x1", "x", 1));
            MessageConsumer owner = owner(one, two, "x1");
            jms.send(queue, message(jms, "x2", "x", -1));
            expect(owner, "x2");
            owner.close();
            jms.send(queue, message(jms, "x3", "x", 1));
            Message next = (owner == one ? two : one).receive(PATIENCE);
            equal(text(next), "x3", "what came after the end");
            equal(next.getBooleanProperty("JMSXGroupFirstForConsumer"), true, "whether it is the first");
        }
    }

    private static void first() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("groups");
            MessageConsumer consumer = jms.consumer(queue);
            send(jms, queue, "x", 2);
            Message one = consumer.receive(PATIENCE);
            Message two = consumer.receive(PATIENCE);
            equal(one.getStringProperty("JMSXGroupID"), "x", "the group");
            equal(one.getIntProperty("JMSXGroupSeq") + two.getIntProperty("JMSXGroupSeq"), 3, "the numbers");
            equal(one.getBooleanProperty("JMSXGroupFirstForConsumer"), true, "whether the first is");
            equal(two.getBooleanProperty("JMSXGroupFirstForConsumer"), false, "whether the second is");
        }
    }

    private static void full() throws Exception {
        try (Jms jms = Jms.open(); Jms one = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms two = Jms.open()) {
            Queue queue = jms.queue("groups");
            MessageConsumer busy = one.consumer(one.queue(queue, "consumer.prefetchSize=1"));
            send(jms, queue, "x", 5);
            expect(busy, "x1");
            MessageConsumer free = two.consumer(queue);
            jms.send(queue, "a", "b");
            send(jms, queue, "y", 2);
            equal(texts(free, 4), List.of("a", "b", "y1", "y2"), "what the other one got");
            nothing(free);
            one.connection.close();
            expect(free, "x1", "x2", "x3", "x4", "x5");
        }
    }

    private static void transacted() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("groups");
            MessageConsumer one = jms.consumer(queue);
            send(other, queue, "x", 3);
            expect(one, "x1", "x2", "x3");
            MessageConsumer two = other.consumer(queue);
            jms.session.rollback();
            expect(one, "x1", "x2", "x3");
            jms.session.commit();
            other.send(queue, message(other, "x4", "x", 4));
            expect(one, "x4");
            nothing(two);
            jms.session.commit();
        }
    }

    private static void exclusive() throws Exception {
        try (Jms jms = Jms.open(); Jms one = Jms.open(Session.CLIENT_ACKNOWLEDGE); Jms two = Jms.open()) {
            Queue queue = jms.queue("exclusive");
            MessageConsumer plain = jms.consumer(queue);
            MessageConsumer first = one.consumer(one.queue(queue, "consumer.exclusive=true"));
            MessageConsumer second = two.consumer(two.queue(queue, "consumer.exclusive=true"));
            jms.send(queue, "a", "b", "c");
            expect(first, "a", "b");
            nothing(second);
            nothing(plain);
            one.connection.close();
            expect(second, "a", "b", "c");
            second.close();
            jms.send(queue, "d");
            expect(plain, "d");
        }
    }

    private static void outranked() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("exclusive");
            MessageConsumer low = jms.consumer(jms.queue(queue, "consumer.exclusive=true"));
            jms.send(queue, "a");
            expect(low, "a");
            MessageConsumer high = other.consumer(other.queue(queue, "consumer.exclusive=true&consumer.priority=10"));
            jms.send(queue, "b");
            expect(high, "b");
            nothing(low);
        }
    }
}
