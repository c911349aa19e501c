package roadstead;

import jakarta.jms.Connection;
import jakarta.jms.Destination;
import jakarta.jms.JMSException;
import jakarta.jms.MessageConsumer;
import jakarta.jms.XAConnection;
import jakarta.jms.XASession;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;
import org.apache.activemq.ActiveMQConnection;
import org.apache.activemq.ActiveMQXAConnectionFactory;

/** A branch of an XA transaction, by a connection of its own, with every step by hand. */
final class Branch implements AutoCloseable {
    final Xid xid;
    final XASession session;
    final XAResource resource;
    private final XAConnection connection;

    private record Id(int getFormatId, byte[] getGlobalTransactionId, byte[] getBranchQualifier) implements Xid {}

    private Branch(Xid xid) throws JMSException {
        this.xid = xid;
        connection = factory().createXAConnection();
        connection.start();
        session = connection.createXASession();
        resource = session.getXAResource();
    }

    static ActiveMQXAConnectionFactory factory() {
        ActiveMQXAConnectionFactory factory = new ActiveMQXAConnectionFactory("guest", "guest", Jms.uri());
        factory.getRedeliveryPolicy().setInitialRedeliveryDelay(0);
        factory.getRedeliveryPolicy().setRedeliveryDelay(0);
        return factory;
    }

    /** A new branch, which has begun. */
    static Branch begun() throws JMSException, XAException {
        Branch branch = new Branch(new Id(4711, bytes(UUID.randomUUID().toString()), bytes("branch")));
        branch.resource.start(branch.xid, XAResource.TMNOFLAGS);
        return branch;
    }

    /** The same branch by another connection, as a transaction manager has it after a failure. */
    static Branch of(Xid xid) throws JMSException {
        return new Branch(xid);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    void send(Destination destination, String... texts) throws JMSException {
        for (String text : texts) {
            session.createProducer(destination).send(session.createTextMessage(text));
        }
    }

    MessageConsumer consumer(Destination destination) throws JMSException {
        return session.createConsumer(destination);
    }

    void end() throws XAException {
        resource.end(xid, XAResource.TMSUCCESS);
    }

    int prepare() throws XAException {
        end();
        return resource.prepare(xid);
    }

    void commit() throws XAException {
        resource.commit(xid, false);
    }

    void rollback() throws XAException {
        resource.rollback(xid);
    }

    /** The prepared branch of this name that the broker tells of, if it does. */
    Xid recovered() throws XAException {
        List<Xid> all = List.of(resource.recover(XAResource.TMSTARTRSCAN | XAResource.TMENDRSCAN));
        return all.stream().filter(this::isNamed).findFirst().orElse(null);
    }

    private boolean isNamed(Xid other) {
        return other.getFormatId() == xid.getFormatId()
            && Arrays.equals(other.getGlobalTransactionId(), xid.getGlobalTransactionId())
            && Arrays.equals(other.getBranchQualifier(), xid.getBranchQualifier());
    }

    interface Step {
        void take() throws XAException;
    }

    /** The code by which a step is refused; 0 if it is not. */
    static int refusal(Step step) {
        try {
            step.take();
            return 0;
        } catch (XAException refused) {
            return refused.errorCode;
        }
    }

    /** The connection goes as if its program had died. */
    void die() throws Exception {
        ((ActiveMQConnection) (Connection) connection).getTransport().stop();
    }

    @Override
    public void close() throws JMSException {
        connection.close();
    }
}
