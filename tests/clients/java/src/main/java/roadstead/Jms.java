package roadstead;

import jakarta.jms.Connection;
import jakarta.jms.Destination;
import jakarta.jms.InvalidDestinationException;
import jakarta.jms.JMSException;
import jakarta.jms.Message;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Session;
import jakarta.jms.TextMessage;
import jakarta.jms.Topic;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQConnectionFactory;

/** A connection of ActiveMQ's client with one session, and what checks say of them. */
final class Jms implements AutoCloseable {
    /** How long something may take that does happen. */
    static final long PATIENCE = 5_000;

    /** How long is waited for what should not happen. */
    static final long MOMENT = 250;

    final ActiveMQConnection connection;
    final Session session;
    private final List<Queue> queues = new ArrayList<>();

    Jms(Connection connection, int mode) throws JMSException {
        this.connection = (ActiveMQConnection) connection;
        this.session = connection.createSession(mode == Session.SESSION_TRANSACTED, mode);
    }

    /** Nothing can be checked without a broker. */
    static void require() {
        if (uri() == null) {
            System.err.println("OPENWIRE_URI is not set, e.g. tcp://127.0.0.1:61616");
            System.exit(2);
        }
    }

    static String uri() {
        return System.getenv("OPENWIRE_URI");
    }

    static ActiveMQConnectionFactory factory(String more) {
        ActiveMQConnectionFactory factory = new ActiveMQConnectionFactory("guest", "guest", uri() + more);
        // A check that waits for a message again does so at once.
        factory.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        factory.getRedeliveryPolicy().setRedeliveryDelay(0);
        factory.setTrustAllPackages(true);
        return factory;
    }

    static Jms open() throws JMSException {
        return open(Session.AUTO_ACKNOWLEDGE);
    }

    static Jms open(int mode) throws JMSException {
        return open("", mode);
    }

    /** With options of the client in the address. */
    static Jms open(String options, int mode) throws JMSException {
        Connection connection = factory(options).createConnection();
        connection.start();
        return new Jms(connection, mode);
    }

    interface Setting {
        void of(ActiveMQConnection connection) throws JMSException;
    }

    /** With settings that have to be made before the connection starts. */
    static Jms open(int mode, Setting setting) throws JMSException {
        ActiveMQConnection connection = (ActiveMQConnection) factory("").createConnection();
        setting.of(connection);
        connection.start();
        return new Jms(connection, mode);
    }

    /** As a client with a name. */
    static Jms named(String client) throws JMSException {
        return open(Session.AUTO_ACKNOWLEDGE, connection -> connection.setClientID(client));
    }

    /** One more session of the same connection. */
    Session session(int mode) throws JMSException {
        return connection.createSession(mode == Session.SESSION_TRANSACTED, mode);
    }

    static String unique(String name) {
        return "roadstead." + name + "." + UUID.randomUUID();
    }

    /** A new queue, which goes with this connection. */
    Queue queue(String name) throws JMSException {
        Queue queue = session.createQueue(unique(name));
        queues.add(queue);
        return queue;
    }

    /** The same queue with options of the client. */
    Queue queue(Queue queue, String options) throws JMSException {
        return session.createQueue(queue.getQueueName() + "?" + options);
    }

    Topic topic(String name) throws JMSException {
        return session.createTopic(unique(name));
    }

    MessageConsumer consumer(Destination destination) throws JMSException {
        return session.createConsumer(destination);
    }

    void send(Destination destination, Message message) throws JMSException {
        MessageProducer producer = session.createProducer(destination);
        producer.send(message);
        producer.close();
    }

    void send(Destination destination, String... texts) throws JMSException {
        MessageProducer producer = session.createProducer(destination);
        for (String text : texts) {
            producer.send(session.createTextMessage(text));
        }
        producer.close();
    }

    /** Sends to a temporary destination of another connection, once this one has been told of it. */
    void sendOnceKnown(Destination destination, String... texts) throws Exception {
        for (String text : texts) {
            Suite.until(() -> {
                try {
                    send(destination, text);
                    return true;
                } catch (InvalidDestinationException unknown) {
                    return false;
                }
            }, destination + " is known");
        }
    }

    static String text(MessageConsumer consumer) throws JMSException {
        return text(consumer.receive(PATIENCE));
    }

    static String text(Message message) throws JMSException {
        return message == null ? null : ((TextMessage) message).getText();
    }

    static List<String> texts(MessageConsumer consumer, int count) throws JMSException {
        List<String> texts = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            texts.add(text(consumer));
        }
        return texts;
    }

    static void nothing(MessageConsumer consumer) throws JMSException {
        Message message = consumer.receive(MOMENT);
        if (message != null) {
            throw new AssertionError("there should be no message, but " + message);
        }
    }

    /** What comes next is this, in this order. */
    static void expect(MessageConsumer consumer, String... expected) throws JMSException {
        Suite.equal(texts(consumer, expected.length), List.of(expected), "what came");
    }

    static String[] numbered(int count) {
        return java.util.stream.IntStream.range(0, count).mapToObj(i -> "m" + i).toArray(String[]::new);
    }

    /** How often a message was delivered, this time included. */
    static int deliveries(Message message) throws JMSException {
        return message.getIntProperty("JMSXDeliveryCount");
    }

    /** Waits for the dead letter with this text, past those of others. */
    Message deadLetter(String text) throws JMSException {
        return deadLetter(text, before -> { });
    }

    /** The same, and looks at the texts of those before it. */
    Message deadLetter(String text, java.util.function.Consumer<String> before) throws JMSException {
        try (MessageConsumer letters = consumer(session.createQueue("ActiveMQ.DLQ"))) {
            Message letter = letters.receive(PATIENCE);
            while (letter != null && !(letter instanceof TextMessage && text.equals(text(letter)))) {
                before.accept(letter instanceof TextMessage ? text(letter) : null);
                letter = letters.receive(PATIENCE);
            }
            Suite.equal(text(letter), text, "the dead letter");
            return letter;
        }
    }

    /** Removes a queue with what is in it. */
    void forget(Destination destination) throws JMSException {
        connection.destroyDestination((org.apache.activemq.command.ActiveMQDestination) destination);
    }

    @Override
    public void close() throws JMSException {
        try {
            session.close();
            for (Queue queue : queues) {
                forget(queue);
            }
        } catch (JMSException inUse) {
            // Another connection of the check still has a consumer there, or this one is closed already.
        } finally {
            connection.close();
        }
    }
}
