package roadstead;

import static roadstead.Suite.EVENT_MILLIS;
import static roadstead.Suite.equal;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;

/** A connected client of either library, whose events can be awaited. */
abstract class MqttClient {
    /** What came; only version 5 has properties. */
    record Message(String topic, byte[] payload, int qos, boolean retained, MqttProperties properties) {}

    /** A will; only version 5 has properties. */
    record Will(String topic, String payload, int qos, boolean retained, MqttProperties properties) {
        Will(String topic, String payload, int qos) {
            this(topic, payload, qos, false, new MqttProperties());
        }
    }

    final String id;
    final BlockingQueue<Message> messages = new LinkedBlockingQueue<>();
    final BlockingQueue<Integer> ends = new LinkedBlockingQueue<>();

    MqttClient(String id) {
        this.id = id;
    }

    abstract boolean sessionPresent();

    /** The codes of SUBACK. */
    abstract List<Integer> subscribe(int qos, String... filters) throws Exception;

    abstract void unsubscribe(String... filters) throws Exception;

    /** Returns when the broker has taken the message. */
    abstract void publish(String topic, byte[] payload, int qos, boolean retained) throws Exception;

    abstract void disconnect() throws Exception;

    /** Ends the connection without a word. */
    abstract void drop() throws Exception;

    void publish(String topic, String payload, int qos) throws Exception {
        publish(topic, Session.bytes(payload), qos, false);
    }

    Message next() throws InterruptedException {
        Message message = messages.poll(EVENT_MILLIS, TimeUnit.MILLISECONDS);
        equal(message != null, true, "the arrival of a message");
        return message;
    }

    List<String> payloads(int count) throws InterruptedException {
        List<String> taken = new ArrayList<>();
        while (taken.size() < count) {
            taken.add(Session.text(next().payload));
        }
        return taken;
    }

    Message expect(String topic, String payload, int qos, boolean retained) throws InterruptedException {
        Message message = next();
        List<Object> found = List.of(message.topic, Session.text(message.payload), message.qos, message.retained);
        equal(found, List.of(topic, payload, qos, retained), "topic, payload, QoS and retain flag");
        return message;
    }

    /** The code with which the broker ended the connection, or 0 if it told none. */
    int ended() throws InterruptedException {
        Integer code = ends.poll(EVENT_MILLIS, TimeUnit.MILLISECONDS);
        equal(code != null, true, "the end of the connection");
        return code;
    }
}
