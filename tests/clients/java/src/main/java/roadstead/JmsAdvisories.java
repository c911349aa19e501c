package roadstead;

import static roadstead.Jms.PATIENCE;
import static roadstead.Suite.equal;

import jakarta.jms.DeliveryMode;
import jakarta.jms.MessageConsumer;
import jakarta.jms.MessageProducer;
import jakarta.jms.Queue;
import jakarta.jms.Topic;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.activemq.advisory.AdvisorySupport;
import org.apache.activemq.advisory.ConsumerEvent;
import org.apache.activemq.advisory.ConsumerEventSource;
import org.apache.activemq.advisory.DestinationSource;
import org.apache.activemq.advisory.ProducerEvent;
import org.apache.activemq.advisory.ProducerEventSource;
import org.apache.activemq.command.ActiveMQDestination;
import org.apache.activemq.command.ActiveMQMessage;
import org.apache.activemq.command.ConnectionInfo;
import org.apache.activemq.command.RemoveInfo;

/** Advisories, by ActiveMQ's own helpers. */
final class JmsAdvisories {
    private JmsAdvisories() {}

    static void addTo(Suite suite) {
        suite.add("consumers-are-told-of", session -> consumers());
        suite.add("consumers-of-topics-are-told-of", session -> subscribers());
        suite.add("producers-are-told-of", session -> producers());
        suite.add("connections-are-told-of", session -> connections());
        suite.add("queues-are-told-of", session -> queues());
        suite.add("topics-are-told-of", session -> topics());
        suite.add("what-becomes-of-messages-is-told", session -> messages());
        suite.add("numbers-of-a-queue", session -> numbers());
        suite.add("numbers-of-consumers", session -> subscriptions());
    }

    private static <T> T next(BlockingQueue<T> events) throws Exception {
        T event = events.poll(PATIENCE, TimeUnit.MILLISECONDS);
        equal(event != null, true, "whether an advisory came");
        return event;
    }

    private static void consumers() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("advised");
            MessageConsumer early = other.consumer(queue);
            BlockingQueue<ConsumerEvent> events = new LinkedBlockingQueue<>();
            ConsumerEventSource source = new ConsumerEventSource(jms.connection, queue);
            source.setConsumerListener(events::add);
            source.start();
            equal(next(events).getConsumerCount(), 1, "the consumers when somebody begins to listen");
            MessageConsumer late = other.consumer(queue);
            ConsumerEvent event = next(events);
            equal(event.isStarted(), true, "whether one came");
            equal(event.getConsumerCount(), 2, "the consumers then");
            late.close();
            early.close();
            equal(next(events).getConsumerCount(), 1, "the consumers when one is gone");
            event = next(events);
            equal(event.isStarted(), false, "whether one came");
            equal(event.getConsumerCount(), 0, "the consumers in the end");
            source.stop();
        }
    }

    private static void subscribers() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Topic topic = jms.topic("advised");
            BlockingQueue<ConsumerEvent> events = new LinkedBlockingQueue<>();
            ConsumerEventSource source = new ConsumerEventSource(jms.connection, topic);
            source.setConsumerListener(events::add);
            source.start();
            MessageConsumer consumer = other.consumer(topic);
            equal(next(events).getConsumerCount(), 1, "the consumers");
            consumer.close();
            equal(next(events).getConsumerCount(), 0, "the consumers in the end");
            source.stop();
        }
    }

    private static void producers() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("advised");
            BlockingQueue<ProducerEvent> events = new LinkedBlockingQueue<>();
            ProducerEventSource source = new ProducerEventSource(jms.connection, queue);
            source.setProducerListener(events::add);
            source.start();
            MessageProducer producer = other.session.createProducer(queue);
            ProducerEvent event = next(events);
            equal(event.isStarted(), true, "whether one came");
            equal(event.getProducerCount(), 1, "the producers");
            producer.close();
            equal(next(events).getProducerCount(), 0, "the producers in the end");
            source.stop();
        }
    }

    private static void connections() throws Exception {
        try (Jms jms = Jms.open()) {
            MessageConsumer consumer = jms.consumer(AdvisorySupport.getConnectionAdvisoryTopic());
            String name = Jms.unique("advised");
            try (Jms other = Jms.named(name)) {
                ActiveMQMessage told = (ActiveMQMessage) consumer.receive(PATIENCE);
                while (told != null && !(told.getDataStructure() instanceof ConnectionInfo info && name.equals(info.getClientId()))) {
                    told = (ActiveMQMessage) consumer.receive(PATIENCE);
                }
                equal(told != null, true, "whether an advisory came");
                equal(told.getStringProperty("originBrokerName") != null, true, "whether it tells the broker");
                ConnectionInfo info = (ConnectionInfo) told.getDataStructure();
                equal(info.getUserName(), "guest", "the user");
                other.connection.close();
                told = (ActiveMQMessage) consumer.receive(PATIENCE);
                while (told != null && !(told.getDataStructure() instanceof RemoveInfo gone && info.getConnectionId().equals(gone.getObjectId()))) {
                    told = (ActiveMQMessage) consumer.receive(PATIENCE);
                }
                equal(told != null, true, "whether its end was told");
            }
        }
    }

    private static void subscriptions() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("numbers");
            jms.send(queue, "a", "b", "c");
            MessageConsumer consumer = jms.session.createConsumer(queue, "JMSPriority >= 0");
            equal(Jms.text(consumer), "a", "what came");
            jakarta.jms.TemporaryQueue replyTo = jms.session.createTemporaryQueue();
            MessageConsumer answers = jms.consumer(replyTo);
            jakarta.jms.Message question = jms.session.createMessage();
            question.setJMSReplyTo(replyTo);
            jms.session.createProducer(null).send(jms.session.createQueue("ActiveMQ.Statistics.Subscription"), question);
            jakarta.jms.MapMessage answer = (jakarta.jms.MapMessage) answers.receive(PATIENCE);
            while (answer != null && !queue.getQueueName().equals(answer.getString("destinationName"))) {
                answer = (jakarta.jms.MapMessage) answers.receive(PATIENCE);
            }
            equal(answer != null, true, "whether the consumer is told of");
            equal(answer.getString("selector"), "JMSPriority >= 0", "the selector");
            equal(answer.getLong("dispatchedCounter"), 3L, "what was dispatched");
            equal(answer.getLong("dequeueCounter"), 1L, "what was acknowledged");
            equal(answer.getBoolean("exclusive"), false, "whether it is exclusive");
            consumer.close();
        }
    }

    private static ActiveMQMessage told(MessageConsumer consumer, String what) throws Exception {
        ActiveMQMessage told = (ActiveMQMessage) consumer.receive(PATIENCE);
        equal(told != null, true, "whether it is told that a message " + what);
        return told;
    }

    private static void messages() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue queue = jms.queue("advised");
            ActiveMQDestination named = (ActiveMQDestination) queue;
            MessageConsumer expired = jms.consumer(AdvisorySupport.getExpiredMessageTopic(named));
            MessageConsumer dead = jms.consumer(AdvisorySupport.getMessageDLQdAdvisoryTopic(named));
            MessageConsumer delivered = jms.consumer(AdvisorySupport.getMessageDeliveredAdvisoryTopic(named));
            MessageConsumer consumed = jms.consumer(AdvisorySupport.getMessageConsumedAdvisoryTopic(named));
            MessageProducer producer = other.session.createProducer(queue);
            jakarta.jms.Message mortal = other.session.createTextMessage("mortal");
            producer.send(mortal, DeliveryMode.PERSISTENT, 4, 50);
            String id = mortal.getJMSMessageID();
            equal(told(delivered, "has come").getStringProperty(AdvisorySupport.MSG_PROPERTY_MESSAGE_ID), id, "what came");
            ActiveMQMessage over = told(expired, "has expired");
            equal(over.getStringProperty(AdvisorySupport.MSG_PROPERTY_MESSAGE_ID), id, "what has expired");
            ActiveMQMessage about = (ActiveMQMessage) over.getDataStructure();
            equal(about.getJMSMessageID(), id, "the message that is told");
            equal(about.getJMSDestination(), queue, "where it was");
            ActiveMQMessage letter = (ActiveMQMessage) told(dead, "is a dead letter").getDataStructure();
            equal(letter.getJMSMessageID(), id, "what is a dead letter");
            jakarta.jms.Message read = other.session.createTextMessage("read");
            producer.send(read);
            MessageConsumer reader = other.consumer(queue);
            equal(Jms.text(reader), "read", "what came");
            equal(
                    told(consumed, "is consumed").getStringProperty(AdvisorySupport.MSG_PROPERTY_MESSAGE_ID),
                    read.getJMSMessageID(),
                    "what is consumed");
            reader.close();
            Topic topic = jms.topic("advised");
            MessageConsumer alone =
                    jms.consumer(AdvisorySupport.getNoTopicConsumersAdvisoryTopic((ActiveMQDestination) topic));
            MessageProducer lonely = other.session.createProducer(topic);
            lonely.setDeliveryMode(DeliveryMode.NON_PERSISTENT);
            lonely.send(other.session.createTextMessage("alone"));
            Jms.expect(alone, "alone");
        }
    }

    private static void topics() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Topic early = other.topic("advised");
            MessageConsumer consumer = other.consumer(early);
            DestinationSource source = jms.connection.getDestinationSource();
            Suite.until(() -> source.getTopics().contains(early), "a topic that was there is told of");
            Topic late = other.topic("advised");
            MessageProducer producer = other.session.createProducer(late);
            Suite.until(() -> source.getTopics().contains(late), "a new topic is told of");
            producer.close();
            Suite.until(() -> !source.getTopics().contains(late), "the end of a topic is told of");
            consumer.close();
        }
    }

    private static void numbers() throws Exception {
        try (Jms jms = Jms.open()) {
            Queue queue = jms.queue("numbers");
            jms.send(queue, "a", "b", "c");
            MessageConsumer consumer = jms.consumer(queue);
            equal(Jms.text(consumer), "a", "what came");
            jakarta.jms.TemporaryQueue replyTo = jms.session.createTemporaryQueue();
            MessageConsumer answers = jms.consumer(replyTo);
            for (String about : new String[] {"Destination." + queue.getQueueName(), "Broker"}) {
                jakarta.jms.Message question = jms.session.createMessage();
                question.setJMSReplyTo(replyTo);
                jms.session.createProducer(null).send(jms.session.createQueue("ActiveMQ.Statistics." + about), question);
                jakarta.jms.MapMessage answer = (jakarta.jms.MapMessage) answers.receive(PATIENCE);
                equal(answer != null, true, "whether there is an answer about " + about);
                if (about.equals("Broker")) {
                    equal(answer.getString("brokerName") != null, true, "whether it tells the broker");
                } else {
                    equal(answer.getLong("enqueueCount"), 3L, "what was sent");
                    equal(answer.getLong("dequeueCount"), 1L, "what was acknowledged");
                    equal(answer.getLong("consumerCount"), 1L, "the consumers");
                }
            }
            consumer.close();
        }
    }

    private static void queues() throws Exception {
        try (Jms jms = Jms.open(); Jms other = Jms.open()) {
            Queue early = jms.queue("advised");
            jms.send(early, "x");
            DestinationSource source = jms.connection.getDestinationSource();
            Suite.until(() -> source.getQueues().contains(early), "a queue that was there is told of");
            Queue late = other.queue("advised");
            other.send(late, "x");
            Suite.until(() -> source.getQueues().contains(late), "a new queue is told of");
            other.forget(late);
            Suite.until(() -> !source.getQueues().contains(late), "the end of a queue is told of");
        }
    }
}
