package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.expect;
import static roadstead.Jms.nothing;
import static roadstead.Jms.text;
import static roadstead.JmsTopics.refused;
import static roadstead.Suite.equal;

import jakarta.jms.Destination;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.QueueConnection;
import jakarta.jms.QueueRequestor;
import jakarta.jms.QueueSession;
import jakarta.jms.Session;
import jakarta.jms.TemporaryQueue;
import jakarta.jms.TemporaryTopic;
import jakarta.jms.Topic;
import jakarta.jms.TopicConnection;
import jakarta.jms.TopicRequestor;
import jakarta.jms.TopicSession;
import java.util.List;

/** Requests with answers, and the temporary destinations that these go to. */
final class JmsRequests {
    private JmsRequests() {}

    static void addTo(Suite suite) {
        suite.add("a-requestor-of-a-queue", session -> queueRequestor());
        suite.add("a-requestor-of-a-topic", session -> topicRequestor());
        suite.add("many-answers-to-one-temporary-queue", session -> many());
        suite.add("answers-in-transactions", session -> transacted());
        suite.add("a-temporary-queue-in-use-is-not-deleted", session -> inUse());
        suite.add("a-deleted-temporary-queue-is-gone", session -> deleted());
        suite.add("a-temporary-queue-keeps-what-comes-before-its-consumer", session -> keeps());
        suite.add("a-temporary-queue-of-several-sessions", session -> sessions());
        suite.add("a-temporary-topic-of-many-consumers", session -> topic());
        suite.add("a-temporary-topic-is-deleted", session -> topicDeleted());
        suite.add("a-hundred-temporary-queues", session -> hundred());
    }

    /** Answers each request in capitals. */
    private static void serve(Jms server, Destination requests) throws JMSException {
        MessageProducer producer = server.session.createProducer(null);
        server.consumer(requests).setMessageListener(request -> {
            try {
                Message answer = server.session.createTextMessage(text(request).toUpperCase());
                answer.setJMSCorrelationID(request.getJMSMessageID());
                producer.send(request.getJMSReplyTo(), answer);
                if (server.session.getTransacted()) {
                    server.session.commit();
                }
            } catch (JMSException failure) {
                failure.printStackTrace();
            }
        });
    }

    private static void queueRequestor() throws Exception {
        QueueConnection connection = Jms.factory("").createQueueConnection();
        try (Jms server = Jms.open()) {
            Queue queue = server.queue("requests");
            serve(server, queue);
            connection.start();
            QueueSession session = connection.createQueueSession(false, Session.AUTO_ACKNOWLEDGE);
            QueueRequestor requestor = new QueueRequestor(session, queue);
            for (String word : List.of("one", "two", "three")) {
                equal(text(requestor.request(session.createTextMessage(word))), word.toUpperCase(), "the answer");
            }
            requestor.close();
        } finally {
            connection.close();
        }
    }

    private static void topicRequestor() throws Exception {
        TopicConnection connection = Jms.factory("").createTopicConnection();
        try (Jms server = Jms.open()) {
            Topic topic = server.topic("requests");
            serve(server, topic);
            connection.start();
            TopicSession session = connection.createTopicSession(false, Session.AUTO_ACKNOWLEDGE);
            TopicRequestor requestor = new TopicRequestor(session, topic);
            for (String word : List.of("one", "two")) {
                equal(text(requestor.request(session.createTextMessage(word))), word.toUpperCase(), "the answer");
            }
            requestor.close();
        } finally {
            connection.close();
        }
    }

    private static void many() throws Exception {
        answers(Session.AUTO_ACKNOWLEDGE);
    }

    private static void transacted() throws Exception {
        answers(Session.SESSION_TRANSACTED);
    }

    private static void answers(int mode) throws Exception {
        try (Jms server = Jms.open(mode); Jms jms = Jms.open()) {
            Queue queue = server.queue("requests");
            serve(server, queue);
            TemporaryQueue replies = jms.session.createTemporaryQueue();
            MessageConsumer consumer = jms.consumer(replies);
            for (int i = 0; i < 100; i++) {
                Message request = jms.session.createTextMessage("r" + i);
                request.setJMSReplyTo(replies);
                jms.send(queue, request);
                Message answer = consumer.receive(PATIENCE);
                equal(text(answer), "R" + i, "the answer");
                equal(answer.getJMSCorrelationID(), request.getJMSMessageID(), "the correlation id");
            }
        }
    }

    private static void inUse() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            TemporaryQueue queue = jms.session.createTemporaryQueue();
            MessageConsumer consumer = jms.consumer(queue);
            refused(queue::delete, "consuming");
            other.sendOnceKnown(queue, "still there");
            expect(consumer, "still there");
            consumer.close();
            queue.delete();
        }
    }

    private static void deleted() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            TemporaryQueue queue = jms.session.createTemporaryQueue();
            other.sendOnceKnown(queue, "while it is there");
            queue.delete();
            refused(() -> jms.send(queue, "late"), "temp-queue://");
            Suite.until(() -> {
                try {
                    other.send(queue, "late");
                    return false;
                } catch (JMSException gone) {
                    return true;
                }
            }, "the other client knows that it is gone");
        }
    }

    private static void keeps() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            TemporaryQueue queue = jms.session.createTemporaryQueue();
            other.sendOnceKnown(queue, "a", "b");
            MessageConsumer consumer = jms.consumer(queue);
            expect(consumer, "a");
            consumer.close();
            expect(jms.consumer(queue), "b");
        }
    }

    private static void sessions() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            TemporaryQueue queue = jms.session.createTemporaryQueue();
            jms.session.close();
            // It belongs to the connection, not to the session that made it.
            Session second = jms.session(Session.CLIENT_ACKNOWLEDGE);
            other.sendOnceKnown(queue, "x");
            expect(second.createConsumer(queue), "x");
            second.close();
            Message again = jms.session(Session.AUTO_ACKNOWLEDGE).createConsumer(queue).receive(PATIENCE);
            equal(text(again), "x", "what comes again");
            equal(again.getJMSRedelivered(), true, "whether it came before");
        }
    }

    private static void topic() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            TemporaryTopic topic = jms.session.createTemporaryTopic();
            List<MessageConsumer> consumers = List.of(jms.consumer(topic), jms.consumer(topic));
            other.sendOnceKnown(topic, "a", "b");
            for (MessageConsumer consumer : consumers) {
                expect(consumer, "a", "b");
                nothing(consumer);
            }
        }
    }

    private static void topicDeleted() throws Exception {
        try (Jms jms = Jms.open()) {
            TemporaryTopic topic = jms.session.createTemporaryTopic();
            MessageConsumer consumer = jms.consumer(topic);
            refused(topic::delete, "consuming");
            consumer.close();
            topic.delete();
            refused(() -> jms.send(topic, "late"), "temp-topic://");
        }
    }

    private static void hundred() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            for (int i = 0; i < 100; i++) {
                TemporaryQueue queue = jms.session.createTemporaryQueue();
                MessageConsumer consumer = jms.consumer(queue);
                jms.send(queue, "x");
                expect(consumer, "x");
                consumer.close();
                if (i % 2 == 0) {
                    queue.delete();
                }
            }
            TemporaryQueue last = jms.session.createTemporaryQueue();
            other.sendOnceKnown(last, "at last");
            expect(jms.consumer(last), "at last");
        }
    }
}
