package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.deliveries;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.numbered;
import static roadstead.Jms.text;
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

/** Sessions whose messages and acknowledgements take effect together. */
final class JmsTransactions {
    private JmsTransactions() {}

    static void addTo(Suite suite) {
        suite.add("one-transaction-of-several-queues-and-topics", session -> several());
        suite.add("committing-twice", session -> committedTwice());
        suite.add("rolling-back-twice", session -> rolledBackTwice());
        suite.add("committed-after-a-rollback", session -> secondAttempt());
        suite.add("closing-a-session-rolls-back", session -> closedSession());
        suite.add("closing-a-connection-rolls-back", session -> closedConnection());
        suite.add("a-consumer-may-close-before-the-commit", session -> consumerClosed());
        suite.add("a-consumer-may-close-before-the-rollback", session -> consumerGone());
        suite.add("a-producer-may-close-before-the-commit", session -> producerClosed());
        suite.add("sessions-have-transactions-of-their-own", session -> independent());
        suite.add("a-thousand-messages-in-one-transaction", session -> thousand());
        suite.add("a-transaction-does-not-see-its-own-messages", session -> own());
        suite.add("a-transaction-for-durable-subscriptions", session -> durable());
        suite.add("a-transaction-to-several-destinations-at-once", session -> composite());
        suite.add("a-listener-commits-and-rolls-back", session -> listener());
        suite.add("rolled-back-over-several-queues", session -> rolledBackEverywhere());
        suite.add("acknowledging-one-by-one-in-a-transaction", session -> individually());
        suite.add("many-small-transactions", session -> small());
        suite.add("non-persistent-messages-in-a-transaction", session -> nonPersistent());
    }

    private static void several() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue first = jms.queue("first");
            Queue second = jms.queue("second");
            Topic topic = jms.topic("third");
            MessageConsumer fromFirst = other.consumer(first);
            MessageConsumer fromSecond = other.consumer(second);
            MessageConsumer fromTopic = other.consumer(topic);
            jms.send(first, "a1", "a2");
            jms.send(topic, "c");
            jms.send(second, "b");
            nothing(fromFirst);
            equal(fromSecond.receiveNoWait(), null, "what came of the second");
            equal(fromTopic.receiveNoWait(), null, "what came of the topic");
            jms.session.commit();
            expect(fromFirst, "a1", "a2");
            expect(fromSecond, "b");
            expect(fromTopic, "c");
        }
    }

    private static void committedTwice() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("twice");
            jms.send(queue, "x");
            jms.session.commit();
            jms.session.commit();
            MessageConsumer consumer = other.consumer(queue);
            expect(consumer, "x");
            nothing(consumer);
        }
    }

    private static void rolledBackTwice() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("twice");
            other.send(queue, "x");
            MessageConsumer consumer = jms.consumer(queue);
            expect(consumer, "x");
            jms.session.rollback();
            jms.session.rollback();
            Message again = consumer.receive(PATIENCE);
            equal(text(again), "x", "what comes again");
            equal(deliveries(again), 2, "the count of deliveries");
            jms.session.commit();
            nothing(consumer);
        }
    }

    private static void secondAttempt() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            other.send(from, "in");
            MessageConsumer consumer = jms.consumer(from);
            expect(consumer, "in");
            jms.send(to, "first attempt");
            jms.session.rollback();
            expect(consumer, "in");
            jms.send(to, "second attempt");
            jms.session.commit();
            consumer.close();
            MessageConsumer result = other.consumer(to);
            expect(result, "second attempt");
            nothing(result);
            nothing(other.consumer(from));
        }
    }

    private static void closedSession() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            jms.send(from, "in");
            Session session = jms.session(Session.SESSION_TRANSACTED);
            expect(session.createConsumer(from), "in");
            session.createProducer(to).send(session.createTextMessage("out"));
            session.close();
            Message again = jms.consumer(from).receive(PATIENCE);
            equal(text(again), "in", "what comes again");
            equal(again.getJMSRedelivered(), true, "whether it came before");
            nothing(jms.consumer(to));
        }
    }

    private static void closedConnection() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue from = jms.queue("from");
            Queue to = jms.queue("to");
            jms.send(from, "in");
            try (Jms other = Jms.open(Session.SESSION_TRANSACTED)) {
                expect(other.consumer(from), "in");
                other.send(to, "out");
            }
            expect(jms.consumer(from), "in");
            nothing(jms.consumer(to));
        }
    }

    private static void consumerClosed() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("closed");
            other.send(queue, "a", "b");
            MessageConsumer consumer = jms.consumer(queue);
            expect(consumer, "a");
            consumer.close();
            jms.session.commit();
            MessageConsumer rest = other.consumer(queue);
            expect(rest, "b");
            nothing(rest);
        }
    }

    private static void consumerGone() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("closed");
            other.send(queue, "a", "b");
            MessageConsumer consumer = jms.consumer(queue);
            expect(consumer, "a");
            consumer.close();
            jms.session.rollback();
            MessageConsumer rest = other.consumer(queue);
            List<String> found = new ArrayList<>(Jms.texts(rest, 2));
            Collections.sort(found);
            equal(found, List.of("a", "b"), "what came");
            nothing(rest);
        }
    }

    private static void producerClosed() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("closed");
            MessageProducer producer = jms.session.createProducer(queue);
            producer.send(jms.session.createTextMessage("x"));
            producer.close();
            jms.session.commit();
            expect(other.consumer(queue), "x");
        }
    }

    private static void independent() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("independent");
            Session second = jms.session(Session.SESSION_TRANSACTED);
            jms.send(queue, "first");
            second.createProducer(queue).send(second.createTextMessage("second"));
            second.commit();
            jms.session.rollback();
            MessageConsumer consumer = other.consumer(queue);
            expect(consumer, "second");
            nothing(consumer);
        }
    }

    private static void thousand() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("thousand");
            jms.send(queue, numbered(1000));
            jms.session.commit();
            MessageConsumer consumer = other.consumer(queue);
            expect(consumer, numbered(1000));
            nothing(consumer);
        }
    }

    private static void own() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED)) {
            Queue queue = jms.queue("own");
            MessageConsumer consumer = jms.consumer(queue);
            jms.send(queue, "x");
            nothing(consumer);
            jms.session.commit();
            expect(consumer, "x");
            jms.session.commit();
            nothing(consumer);
        }
    }

    private static void durable() throws Exception {
        try (Jms jms = Jms.named(Jms.unique("client"))) {
            Topic topic = jms.topic("durable");
            jms.session.createDurableSubscriber(topic, "sub").close();
            Session transacted = jms.session(Session.SESSION_TRANSACTED);
            MessageProducer producer = transacted.createProducer(topic);
            producer.send(transacted.createTextMessage("lost"));
            transacted.rollback();
            producer.send(transacted.createTextMessage("kept"));
            transacted.commit();
            MessageConsumer consumer = transacted.createDurableSubscriber(topic, "sub");
            expect(consumer, "kept");
            transacted.rollback();
            expect(consumer, "kept");
            transacted.commit();
            consumer.close();
            consumer = transacted.createDurableSubscriber(topic, "sub");
            nothing(consumer);
            consumer.close();
            jms.session.unsubscribe("sub");
        }
    }

    private static void composite() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue first = jms.queue("first");
            Queue second = jms.queue("second");
            Topic topic = jms.topic("third");
            MessageConsumer fromTopic = other.consumer(topic);
            Queue all = jms.session.createQueue(first.getQueueName() + "," + second.getQueueName() + ",topic://" + topic.getTopicName());
            jms.send(all, "lost");
            jms.session.rollback();
            jms.send(all, "x");
            nothing(fromTopic);
            jms.session.commit();
            for (MessageConsumer consumer : List.of(fromTopic, other.consumer(first), other.consumer(second))) {
                expect(consumer, "x");
                nothing(consumer);
            }
        }
    }

    private static void listener() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("listener");
            List<String> found = Collections.synchronizedList(new ArrayList<>());
            jms.consumer(queue).setMessageListener(message -> {
                try {
                    found.add(text(message) + " " + deliveries(message));
                    if (deliveries(message) == 1) {
                        jms.session.rollback();
                    } else {
                        jms.session.commit();
                    }
                } catch (JMSException failure) {
                    found.add(failure.toString());
                }
            });
            other.send(queue, "a", "b");
            Suite.until(() -> found.size() == 4, "both have come twice");
            equal(found, List.of("a 1", "a 2", "b 1", "b 2"), "what came");
            Suite.until(() -> {
                jms.session.close();
                return true;
            }, "the session is closed");
            nothing(other.consumer(queue));
        }
    }

    private static void rolledBackEverywhere() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            List<Queue> queues = List.of(jms.queue("first"), jms.queue("second"), jms.queue("third"));
            List<MessageConsumer> consumers = new ArrayList<>();
            for (Queue queue : queues) {
                other.send(queue, "a", "b");
                consumers.add(jms.consumer(queue));
            }
            for (int attempt = 0; attempt < 2; attempt++) {
                for (MessageConsumer consumer : consumers) {
                    expect(consumer, "a", "b");
                }
                jms.session.rollback();
            }
            for (MessageConsumer consumer : consumers) {
                expect(consumer, "a");
            }
            jms.session.commit();
            jms.session.close();
            for (Queue queue : queues) {
                expect(other.consumer(queue), "b");
            }
        }
    }

    private static void individually() throws Exception {
        try (Jms jms = Jms.open("?jms.transactedIndividualAck=true", Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("individually");
            other.send(queue, numbered(20));
            MessageConsumer consumer = jms.consumer(jms.queue(queue, "consumer.prefetchSize=5"));
            expect(consumer, numbered(20));
            jms.session.rollback();
            expect(consumer, numbered(20));
            jms.session.commit();
            nothing(consumer);
        }
    }

    private static void small() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("small");
            MessageConsumer consumer = jms.consumer(queue);
            other.send(queue, "0");
            for (int i = 0; i < 200; i++) {
                equal(text(consumer), "" + i, "what came");
                jms.send(queue, "" + (i + 1));
                jms.session.commit();
            }
            expect(consumer, "200");
            jms.session.commit();
            nothing(consumer);
        }
    }

    private static void nonPersistent() throws Exception {
        try (Jms jms = Jms.open(Session.SESSION_TRANSACTED); Jms other = Jms.open()) {
            Queue queue = jms.queue("non-persistent");
            MessageConsumer consumer = other.consumer(queue);
            MessageProducer producer = jms.session.createProducer(queue);
            producer.setDeliveryMode(jakarta.jms.DeliveryMode.NON_PERSISTENT);
            producer.send(jms.session.createTextMessage("lost"));
            jms.session.rollback();
            producer.send(jms.session.createTextMessage("x"));
            nothing(consumer);
            jms.session.commit();
            expect(consumer, "x");
            nothing(consumer);
        }
    }
}
