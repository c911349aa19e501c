package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Jms.nothing;
import static roadstead.Jms.text;
import static roadstead.Jms.texts;
import static roadstead.JmsTopics.refused;
import static roadstead.Suite.equal;

import jakarta.jms.Connection;
import jakarta.jms.InvalidClientIDException;
import jakarta.jms.JMSContext;
import jakarta.jms.JMSSecurityException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.TemporaryQueue;
import jakarta.jms.Topic;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.activemq.ActiveMQConnectionFactory;

/** Logins, names of clients, temporary queues, what comes over from other protocols, and a restart of the broker. */
final class JmsConnections {
    private JmsConnections() {}

    static void addTo(Suite suite) {
        suite.add("a-wrong-password", session -> wrongPassword());
        suite.add("a-name-is-for-one-client", session -> names());
        suite.add("reply-to-a-temporary-queue", session -> reply());
        suite.add("temporary-queues-end-with-their-connection", session -> temporaryEnds());
        suite.add("temporary-queues-are-for-their-connection", session -> temporaryIsOwn());
        suite.add("simplified-api", session -> simplified());
        suite.add("messages-of-amqp", JmsConnections::fromAmqp);
        suite.add("messages-to-amqp", JmsConnections::toAmqp);
        suite.add("keep-alive", session -> keepAlive());
        suite.add("a-restart-of-the-broker", 60_000, session -> restart());
    }

    private static void wrongPassword() throws Exception {
        Connection connection = new ActiveMQConnectionFactory("guest", "wrong", Jms.uri()).createConnection();
        try {
            connection.start();
            throw new AssertionError("a wrong password was taken");
        } catch (JMSSecurityException refused) {
            equal(refused.getMessage(), "User name [guest] or password is invalid.", "the reason");
        } finally {
            connection.close();
        }
    }

    private static void names() throws Exception {
        String name = Jms.unique("client");
        try (Jms jms = Jms.named(name)) {
            try (Jms other = Jms.named(name)) {
                throw new AssertionError("two clients have one name: " + other);
            } catch (InvalidClientIDException refused) {
                equal(refused.getMessage().contains("already connected from tcp://"), true, refused.getMessage());
            }
            equal(jms.connection.getClientID(), name, "the name");
        }
        Jms.named(name).close();
    }

    private static void reply() throws Exception {
        try (Jms jms = Jms.open(); Jms server = Jms.open()) {
            Queue queue = jms.queue("requests");
            TemporaryQueue replies = jms.session.createTemporaryQueue();
            MessageConsumer consumer = jms.consumer(replies);
            Message request = jms.session.createTextMessage("ping");
            request.setJMSReplyTo(replies);
            jms.send(queue, request);
            Message got = server.consumer(queue).receive(PATIENCE);
            server.send(got.getJMSReplyTo(), "pong");
            equal(text(consumer), "pong", "the reply");
            consumer.close();
            replies.delete();
        }
    }

    private static void temporaryEnds() throws Exception {
        try (Jms server = Jms.open()) {
            TemporaryQueue replies;
            try (Jms jms = Jms.open()) {
                replies = jms.session.createTemporaryQueue();
                server.sendOnceKnown(replies, "while it is there");
            }
            Suite.until(() -> {
                try {
                    server.send(replies, "late");
                    return false;
                } catch (jakarta.jms.JMSException gone) {
                    return true;
                }
            }, "the queue is gone");
        }
    }

    private static void temporaryIsOwn() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            TemporaryQueue queue = jms.session.createTemporaryQueue();
            refused(() -> other.consumer(queue), "Cannot use a Temporary destination from another Connection");
        }
    }

    private static void simplified() throws Exception {
        try (JMSContext context = Jms.factory("").createContext()) {
            Queue queue = context.createQueue(Jms.unique("context"));
            context.createProducer().setProperty("k", "v").send(queue, "hello");
            Message message = context.createConsumer(queue).receive(PATIENCE);
            equal(List.of(text(message), message.getStringProperty("k")), List.of("hello", "v"), "what came");
        }
    }

    private static void fromAmqp(roadstead.Session session) throws Exception {
        com.rabbitmq.client.Channel channel = session.channel();
        String name = Jms.unique("amqp");
        channel.queueDeclare(name, true, false, false, null);
        var headers = java.util.Map.<String, Object>of("n", 5, "colour", "red");
        var properties = new com.rabbitmq.client.AMQP.BasicProperties.Builder()
                .contentType("text/plain").correlationId("c").replyTo("answers").type("t").headers(headers).build();
        channel.basicPublish("", name, properties, "grüße".getBytes("UTF-8"));
        channel.basicPublish("amq.topic", name + ".x", null, new byte[] {1, 2, 3});
        try (Jms jms = Jms.open()) {
            Message message = jms.consumer(jms.session.createQueue(name)).receive(PATIENCE);
            equal(text(message), "grüße", "the text");
            equal(message.getIntProperty("n"), 5, "the number");
            equal(message.getStringProperty("colour"), "red", "the text of a header");
            equal(message.getJMSCorrelationID(), "c", "the correlation id");
            equal(message.getJMSType(), "t", "the type");
            equal(message.getJMSReplyTo().toString(), "queue://answers", "where to reply");
            MessageConsumer topic = jms.consumer(jms.session.createTopic(name + ".*"));
            channel.basicPublish("amq.topic", name + ".y", null, new byte[] {1, 2, 3});
            Message bytes = topic.receive(PATIENCE);
            equal(((jakarta.jms.BytesMessage) bytes).getBodyLength(), 3L, "the length of the bytes");
            equal(bytes.getJMSDestination().toString(), "topic://" + name + ".y", "where it came from");
        }
        channel.queueDelete(name);
    }

    private static void toAmqp(roadstead.Session session) throws Exception {
        com.rabbitmq.client.Channel channel = session.channel();
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("amqp");
            Message sent = jms.session.createTextMessage("grüße");
            sent.setIntProperty("n", 5);
            sent.setJMSCorrelationID("c");
            sent.setJMSReplyTo(jms.session.createQueue("answers"));
            jms.send(queue, sent);
            com.rabbitmq.client.GetResponse got = channel.basicGet(queue.getQueueName(), true);
            equal(new String(got.getBody(), "UTF-8"), "grüße", "the body");
            equal(got.getProps().getContentType(), "text/plain", "the content type");
            equal(got.getProps().getHeaders().get("n"), 5, "the header");
            equal(got.getProps().getCorrelationId(), "c", "the correlation id");
            equal(got.getProps().getReplyTo(), "answers", "where to reply");
            equal(got.getProps().getDeliveryMode(), 2, "the delivery mode");
            equal(got.getProps().getMessageId(), sent.getJMSMessageID(), "the message id");
            channel.queueDelete(queue.getQueueName());
        }
    }

    private static void keepAlive() throws Exception {
        try (Jms jms = Jms.open("?wireFormat.maxInactivityDuration=1500&wireFormat.maxInactivityDurationInitalDelay=500", Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("alive");
            MessageConsumer consumer = jms.consumer(queue);
            Thread.sleep(4_000);
            jms.send(queue, "still there");
            equal(text(consumer), "still there", "what came");
        }
    }

    private static void restart() throws Exception {
        String client = Jms.unique("client");
        String uri = "failover:(" + Jms.uri() + ")?maxReconnectDelay=200";
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory("guest", "guest", uri);
        factory.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        Connection connection = factory.createConnection();
        connection.setClientID(client);
        connection.start();
        try (Jms jms = new Jms(connection, Session.AUTO_ACKNOWLEDGE)) {
            Queue queue = jms.queue("restart");
            Topic topic = jms.topic("restart");
            jms.session.createDurableSubscriber(topic, "sub").close();
            jms.send(queue, "kept 1", "kept 2");
            jms.send(topic, "for the subscription");
            jms.send(queue, JmsScheduled.scheduled(jms, "kept and late", 3_000));
            Session transacted = connection.createSession(true, Session.SESSION_TRANSACTED);
            transacted.createProducer(queue).send(transacted.createTextMessage("never committed"));
            TemporaryQueue replies = jms.session.createTemporaryQueue();
            MessageConsumer fromReplies = jms.consumer(replies);
            // One that has nowhere else to go.
            Connection plain = Jms.factory("").createConnection();
            CompletableFuture<jakarta.jms.JMSException> told = new CompletableFuture<>();
            plain.setExceptionListener(told::complete);
            plain.start();
            Suite.restartBroker();
            told.get(PATIENCE, TimeUnit.MILLISECONDS);
            plain.close();
            // The client connects by itself, with all that it had.
            MessageConsumer consumer = jms.consumer(queue);
            equal(texts(consumer, 3), List.of("kept 1", "kept 2", "kept and late"), "what came over the restart");
            nothing(consumer);
            MessageConsumer subscription = jms.session.createDurableSubscriber(topic, "sub");
            equal(text(subscription), "for the subscription", "what the subscription has");
            jms.send(replies, "a reply");
            equal(text(fromReplies), "a reply", "what came to the temporary queue");
            jms.send(queue, "after");
            equal(text(consumer), "after", "what came afterwards");
            subscription.close();
            jms.session.unsubscribe("sub");
        }
    }
}
