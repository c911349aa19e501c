package roadstead;

import jakarta.jms.Connection;
import jakarta.jms.Destination;
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

    Jms(Connection connection, int mode) throws JMSException {
        this.connection = (ActiveMQConnection) connection;
        this.session = connection.createSession(mode == Session.SESSION_TRANSACTED, mode);
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

    /** As a client with a name. */
    static Jms named(String client) throws JMSException {
        Connection connection = factory("").createConnection();
        connection.setClientID(client);
        connection.start();
        return new Jms(connection, Session.AUTO_ACKNOWLEDGE);
    }

    static String unique(String name) {
        return "roadstead." + name + "." + UUID.randomUUID();
    }

    Queue queue(String name) throws JMSException {
        return session.createQueue(unique(name));
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

    /** Removes a queue with what is in it. */
    void forget(Destination destination) throws JMSException {
        connection.destroyDestination((org.apache.activemq.command.ActiveMQDestination) destination);
    }

    @Override
    public void close() throws JMSException {
        connection.close();
    }
}
